package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"slices"

	turnwire "turnwire/clients/go"
)

//go:embed page.html
var page []byte

// conversation is the id of each user's one conversation. Users can't see each other's, even if the ids are the same.
const conversation = "main"

type backend struct {
	gateway *turnwire.Client
	users   *users
}

func (b *backend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("POST /login", b.users.signIn)
	mux.HandleFunc("POST /logout", b.users.signOut)
	mux.HandleFunc("POST /api/chat", b.signedIn(b.chat))
	mux.HandleFunc("POST /api/turns/{turn}/stop", b.signedIn(b.stop))
	mux.HandleFunc("GET /api/history", b.signedIn(b.history))
	// Refuse what pages of other sites send, so that they can't use a user's session.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); r.Method == http.MethodPost && site != "" && site != "same-origin" {
			http.Error(w, "Use this site's own page.", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// signedIn passes on the user of a request, and refuses a request without one.
func (b *backend) signedIn(serve func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if user := b.users.of(r); user != "" {
			serve(w, r, user)
			return
		}
		http.Error(w, "Sign in first.", http.StatusUnauthorized)
	}
}

// chat streams an answer as server-sent events: turn, text, again and end. If the browser goes away, the request's context is
// done, and with it the turn: nobody pays for an answer that nobody reads.
func (b *backend) chat(w http.ResponseWriter, r *http.Request, user string) {
	var asked struct{ Input string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&asked); err != nil {
		http.Error(w, `Send JSON such as {"input": "Hello"}.`, http.StatusBadRequest)
		return
	}
	turn := b.gateway.As(user).Start(r.Context(), turnwire.Start{Input: asked.Input, Conversation: conversation, Create: true})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	send := func(event string, data any) {
		encoded, _ := json.Marshal(data)
		_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, encoded)
		_ = http.NewResponseController(w).Flush()
	}
	send("turn", turn.ID())
	for event, err := range turn.Events() {
		if err != nil {
			break // the end has it
		}
		switch event := event.(type) {
		case *turnwire.Delta:
			if event.Kind == "text" {
				send("text", event.Text)
			}
		case *turnwire.Reset:
			send("again", nil)
		}
	}
	message, err := turn.Wait(context.Background())
	send("end", map[string]any{"status": turn.Status(), "error": sentence(err), "usage": message.Usage})
}

// sentence returns what to tell the user about an error; "" if there is none.
func sentence(err error) string {
	var coded *turnwire.Error
	if errors.As(err, &coded) {
		return coded.Message
	}
	if err != nil {
		log.Print(err)
		return "The answer failed. Try again."
	}
	return ""
}

// stop stops a turn. A turn of another user isn't found.
func (b *backend) stop(w http.ResponseWriter, r *http.Request, user string) {
	turn := r.PathValue("turn")
	outcomes, err := b.gateway.As(user).Cancel(r.Context(), turnwire.Cancellation{Turns: []string{turn}, Reason: "stopped by the user"})
	answer(w, map[string]any{"outcome": outcomes[turn]}, err)
}

// history reads the user's messages from the gateway's export, which has the newest first.
func (b *backend) history(w http.ResponseWriter, r *http.Request, user string) {
	type shown struct {
		Role string `json:"role"`
		Text string `json:"text"`
	}
	messages := []shown{}
	for line, err := range b.gateway.Export(r.Context(), user) {
		if err != nil {
			answer(w, nil, err)
			return
		}
		var message turnwire.Message
		if line.Kind == "message" && json.Unmarshal(line.Raw, &message) == nil && message.Conversation == conversation {
			messages = append(messages, shown{message.Role, message.Text()})
		}
	}
	slices.Reverse(messages)
	answer(w, messages, nil)
}

func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		log.Print(err)
		http.Error(w, sentence(err), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
