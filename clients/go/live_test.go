package turnwire_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	turnwire "turnwire/clients/go"
)

// live connects to a real gateway with the model demo and without auth, whose URL is in TURNWIRE_LIVE_URL.
func live(t *testing.T, options ...turnwire.Option) *turnwire.Client {
	t.Helper()
	url := os.Getenv("TURNWIRE_LIVE_URL")
	if url == "" {
		t.Skip("TURNWIRE_LIVE_URL has no gateway")
	}
	return dial(t, url, options...)
}

func TestLiveRequests(t *testing.T) {
	for name, options := range map[string][]turnwire.Option{
		"JSON": {}, "MessagePack": {turnwire.WithCodec(turnwire.MessagePack)}, "HTTP": {turnwire.WithTransport(turnwire.HTTP)},
	} {
		t.Run(name, func(t *testing.T) { playRequests(t, live(t, options...)) })
	}
}

func playRequests(t *testing.T, client *turnwire.Client) {
	ctx := background(t)
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	made, err := client.CreateConversation(ctx, turnwire.NewConversation{Title: "A title", Metadata: map[string]any{"a": 1.5}})
	fatal(err)
	updated, err := client.UpdateConversation(ctx, made.ID, turnwire.ConversationUpdate{Pinned: turnwire.Ptr(true), System: turnwire.Ptr("Be brief.")})
	fatal(err)
	if read, err := client.Conversation(ctx, made.ID); err != nil || read.Title != "A title" || !updated.Pinned || read.System != "Be brief." {
		t.Errorf("%+v, %v", read, err)
	}
	turn := client.Start(ctx, turnwire.Start{
		Input: "Hi", Conversation: made.ID, Model: "demo", Metadata: map[string]any{"from": "a test"},
		Params: turnwire.Params{Temperature: turnwire.Ptr(0.5), Demo: map[string]any{"text": "Schön, 文字 👩‍🚀", "rate": 0, "thinking": 3, "tool": true}},
		Tools:  []turnwire.Tool{{Name: "weather", Parameters: map[string]any{"type": "object"}}},
	})
	message, err := turn.Wait(ctx)
	fatal(err)
	if message.Text() != "Schön, 文字 👩‍🚀" || message.FinishReason != "tool_calls" || message.Usage.OutputTokens == 0 || message.Timing == nil {
		t.Errorf("%+v", message)
	}
	call := message.Parts[len(message.Parts)-1]
	result := client.Start(ctx, turnwire.Start{
		Conversation: made.ID, Parts: []turnwire.Part{{Kind: "tool_result", Call: call.Call, Output: "sun"}},
		Parent: message.ID, Params: turnwire.Params{Demo: map[string]any{"text": "Sun."}},
	})
	_, err = result.Wait(ctx)
	fatal(err)
	fatal(client.Feedback(ctx, message.ID, "up", "good"))
	var texts []string
	for one, err := range client.History(ctx, made.ID) {
		fatal(err)
		texts = append(texts, one.Role+" "+one.Text())
		if one.ID == message.ID && (one.Rating != "up" || one.Comment != "good" || one.Ended != turnwire.StatusCompleted) {
			t.Errorf("%+v", one)
		}
	}
	if got := strings.Join(texts, "|"); got != "assistant Sun.|tool |assistant Schön, 文字 👩‍🚀|user Hi" {
		t.Errorf("%s", got)
	}
	// History can be sent back as the context of a stateless turn.
	stateless := client.Start(ctx, turnwire.Start{
		Messages: []turnwire.Message{{Role: "user", Parts: []turnwire.Part{turnwire.TextPart("Is it raining?")}}, message,
			{Role: "tool", Parts: []turnwire.Part{{Kind: "tool_result", Call: call.Call, Output: "rain"}}}},
		Params: turnwire.Params{Demo: map[string]any{"text": "Rain."}},
	})
	if answer, err := stateless.Wait(ctx); err != nil || answer.Text() != "Rain." || answer.Conversation != "" {
		t.Errorf("%+v, %v", answer, err)
	}
	found := false
	for one, err := range client.Conversations(ctx, turnwire.ConversationList{Limit: 1}) {
		fatal(err)
		if found = one.ID == made.ID; found {
			break
		}
	}
	models, byDefault, err := client.Models(ctx)
	if !found || err != nil || byDefault == "" || len(models) < 2 || !models[0].Available {
		t.Errorf("found %v, %d models, default %q, %v", found, len(models), byDefault, err)
	}
	if usage, _, err := client.Usage(ctx, turnwire.UsageQuery{Conversation: made.ID, Since: time.Now().Add(-time.Hour)}); err != nil || usage.OutputTokens == 0 {
		t.Errorf("%+v, %v", usage, err)
	}
	if info, err := client.GetTurn(ctx, turn.ID()); err != nil || info.Status != turnwire.StatusCompleted || info.Message.Text() != message.Text() {
		t.Errorf("%+v, %v", info, err)
	}
	if outcomes, err := client.Cancel(ctx, turnwire.Cancellation{Turns: []string{turn.ID(), "nobody"}}); err != nil ||
		outcomes[turn.ID()] != turnwire.OutcomeAlreadyEnded || outcomes["nobody"] != turnwire.OutcomeNotFound {
		t.Errorf("%v, %v", outcomes, err)
	}
	if _, err := client.Ping(ctx); err != nil {
		t.Error(err)
	}
	kinds := map[string]int{}
	for line, err := range client.Export(ctx, "") {
		fatal(err)
		kinds[line.Kind]++
	}
	if kinds["user"] != 1 || kinds["end"] != 1 || kinds["message"] < 4 {
		t.Errorf("%v", kinds)
	}
	fatal(client.ClearConversation(ctx, made.ID))
	fatal(client.DeleteConversation(ctx, made.ID))
	if _, err := client.Conversation(ctx, made.ID); !errors.Is(err, &turnwire.Error{Code: "not_found"}) {
		t.Errorf("%v", err)
	}
}

// A start that is too large for a frame goes over HTTP, and its turn is followed on the socket.
func TestLiveLargeStart(t *testing.T) {
	client := live(t)
	turn := client.Start(background(t), turnwire.Start{
		Input: strings.Repeat("Much. ", 20_000), Params: turnwire.Params{Demo: map[string]any{"text": "Read.", "rate": 20}},
	})
	if message, err := turn.Wait(background(t)); err != nil || message.Text() != "Read." {
		t.Errorf("%q, %v", message.Text(), err)
	}
}

// A program that kept the position of the ending, and attaches there, gets an error and doesn't wait for ever.
func TestLiveAttachAtTheEnding(t *testing.T) {
	for _, transport := range []turnwire.Transport{turnwire.Socket, turnwire.HTTP} {
		client := live(t, turnwire.WithTransport(transport))
		turn := client.Start(background(t), turnwire.Start{Input: "Hi", Params: turnwire.Params{Demo: map[string]any{"text": "All."}}})
		if _, err := turn.Wait(background(t)); err != nil {
			t.Fatal(err)
		}
		position := turn.Position()
		if _, err := client.Attach(background(t), turn.ID(), position).Wait(background(t)); turnwire.CodeOf(err) != "gone" {
			t.Errorf("%s: %v", transport, err)
		}
		position.Seq--
		if message, err := client.Attach(background(t), turn.ID(), position).Wait(background(t)); message.Ended != turnwire.StatusCompleted {
			t.Errorf("%s: %+v, %v", transport, message, err)
		}
	}
}

// Twenty goroutines start, read and stop turns of one connection. What the gateway refuses because of its limits is repeated.
func TestLiveManyTurns(t *testing.T) {
	client := live(t, turnwire.WithCodec(turnwire.MessagePack))
	var all sync.WaitGroup
	for n := range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			ctx, cancel := context.WithCancelCause(background(t))
			defer cancel(nil)
			text := fmt.Sprintf("This is answer %d, which has some words.", n)
			demo := map[string]any{"text": text, "rate": 200}
			if n%2 == 0 {
				demo = map[string]any{"rate": 100, "tokens": 100_000}
			}
			turn := client.Start(ctx, turnwire.Start{Input: "Hi", Params: turnwire.Params{Demo: demo}})
			read := ""
			for piece, err := range turn.Text() {
				if err != nil {
					t.Error(err)
				}
				if read += piece; n%2 == 0 && len(read) > 50 {
					cancel(errors.New("enough"))
				}
			}
			message, err := turn.Wait(background(t))
			if err != nil || message.Text() != read || n%2 == 1 && read != text || n%2 == 0 && message.Reason != "enough" {
				t.Errorf("%d: %q, %q, %v", n, message.Ended, message.Reason, err)
			}
		}()
	}
	all.Wait()
	if stats := client.Stats(); stats.Openings != 1 || len(stats.Violations) > 0 {
		t.Errorf("%+v", stats)
	}
}
