// Command go-client runs a turn at a Turnwire gateway, and prints the answer while it streams. If the connection is lost,
// it reconnects and continues after the last character. On an interrupt, it cancels the turn and waits for its ending.
//
// With -as, one socket carries a turn for each of several users, like the socket of a backend.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "go-client:", err)
		os.Exit(1)
	}
}

func run() error {
	url := flag.String("url", "ws://127.0.0.1:8000/ws", "URL of the gateway, or of a proxy in front of it")
	id := flag.String("turn", newID(), "the turn's id: a repeated start with the same id and input returns the first turn")
	model := flag.String("model", "", "model (default: the gateway's default model)")
	params := flag.String("params", "", `parameters as JSON, such as {"temperature":0.5}`)
	users := flag.String("as", "", "comma-separated users to act for; requires the scope as")
	flag.Parse()
	if flag.NArg() != 1 {
		return fmt.Errorf("the input is missing: go-client [options] INPUT")
	}

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(interrupted, stop) // a second interrupt ends the process

	c := &client{
		url: *url, header: http.Header{}, starts: map[string]start{}, turns: map[string]*turn{},
		cancel:  interrupted.Done(),
		onText:  printText,
		onEvent: func(what string) { fmt.Fprintln(os.Stderr, what) },
	}
	if token := os.Getenv("TURNWIRE_TOKEN"); token != "" {
		c.header.Set("Authorization", "Bearer "+token)
	}
	if *users != "" {
		c.onText = func(string, string, bool) {}
	}
	for _, user := range strings.Split(*users, ",") {
		c.starts[user] = start{
			Type: "turn.start", ID: "start " + user, As: user, Turn: *id, Input: flag.Arg(0),
			Model: *model, Params: json.RawMessage(*params),
		}
		c.turns[user] = &turn{}
	}
	if err := c.run(context.Background()); err != nil {
		return err
	}
	return report(c)
}

func newID() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // crypto/rand doesn't fail on the platforms of Go
	return "go-" + hex.EncodeToString(random)
}

func printText(_, text string, again bool) {
	if again {
		fmt.Print("\n(from the start)\n")
	}
	fmt.Print(text)
}

// report prints how the turns ended. For a turn of -as, it also prints the text, as a line of JSON.
func report(c *client) error {
	var failed error
	lines := json.NewEncoder(os.Stdout)
	for user, held := range c.turns {
		if user != "" {
			_ = lines.Encode(map[string]string{"as": user, "ended": held.ended, "text": held.text.String()})
		}
		if held.ended == "turn.failed" {
			failed = held.err
		}
		fmt.Fprintln(os.Stderr, held.ended)
	}
	return failed
}
