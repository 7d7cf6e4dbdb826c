// Command go-client asks a Turnwire gateway, and prints the answer as it comes. When the connection is lost it comes
// back and goes on behind the last character; on an interrupt it stops the turn and waits for its ending.
//
// With -as, one socket carries a turn for each of many users, as a backend's would.
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
	url := flag.String("url", "ws://127.0.0.1:8000/ws", "the gateway, or a proxy before it")
	id := flag.String("turn", newID(), "the turn's id: asking twice with it asks once")
	model := flag.String("model", "", "the gateway's default without it")
	params := flag.String("params", "", `tuning, as JSON: {"temperature":0.5}`)
	users := flag.String("as", "", "users to speak for, with commas between them; needs the scope as")
	flag.Parse()
	if flag.NArg() != 1 {
		return fmt.Errorf("say what to ask: go-client [options] INPUT")
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
	_, _ = rand.Read(random) // which doesn't fail where Go runs
	return "go-" + hex.EncodeToString(random)
}

func printText(_, said string, again bool) {
	if again {
		fmt.Print("\n(from the start)\n")
	}
	fmt.Print(said)
}

// report says how the turns ended; what was said for many users as a line of JSON for each.
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
