// Command ask asks a Turnwire gateway something, and prints the answer while it streams. If the connection is lost, it
// continues after the last character. On an interrupt, it cancels the turn and waits for its ending.
//
// With -as, one socket carries a turn for each of several users, like the socket of a backend.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	turnwire "turnwire/clients/go"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ask:", err)
		os.Exit(1)
	}
}

func run() error {
	url := flag.String("url", "ws://127.0.0.1:8000/ws", "URL of the gateway, or of a proxy in front of it")
	id := flag.String("turn", "", "the turn's id: a repeated start with the same id and input returns the first turn")
	model := flag.String("model", "", "model (default: the gateway's default model)")
	params := flag.String("params", "", `parameters as JSON, such as {"temperature":0.5}`)
	users := flag.String("as", "", "comma-separated users to act for; requires the scope as")
	codec := flag.String("codec", "json", "encoding of the frames: json or msgpack")
	transport := flag.String("transport", "auto", "auto, socket or http")
	flag.Parse()
	if flag.NArg() != 1 {
		return errors.New("the input is missing: ask [options] INPUT")
	}
	start := turnwire.Start{Input: flag.Arg(0), Model: *model, Turn: *id}
	if *params != "" {
		start.Fields = map[string]any{"params": json.RawMessage(*params)}
	}

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(interrupted, stop) // a second interrupt ends the process

	c, err := turnwire.Dial(interrupted, *url, turnwire.WithToken(os.Getenv("TURNWIRE_TOKEN")),
		turnwire.WithCodec(turnwire.Codec(*codec)), turnwire.WithTransport(turnwire.Transport(*transport)),
		turnwire.WithStateHandler(printState))
	if err != nil {
		return err
	}
	defer c.Close()
	if *users == "" {
		return printAnswer(c.Start(interrupted, start))
	}
	var all sync.WaitGroup
	for _, user := range strings.Split(*users, ",") {
		all.Add(1)
		go func() {
			defer all.Done()
			turn := c.As(user).Start(interrupted, start)
			message, _ := turn.Wait(context.Background())
			line, _ := json.Marshal(map[string]any{"as": user, "ended": "turn." + turn.Status(), "text": message.Text()})
			fmt.Println(string(line))
		}()
	}
	all.Wait()
	return nil
}

// asked is the turn that is printed; nil before its start.
var asked atomic.Pointer[turnwire.Turn]

func printState(state turnwire.State) {
	switch turn := asked.Load(); {
	case state.Name == "waiting":
		fmt.Fprintf(os.Stderr, "connection lost (%v), reconnecting in %v\n", state.Err, state.Retry.Round(time.Millisecond))
	case state.Name == "live" && turn != nil && turn.Position().Seq > 0:
		fmt.Fprintf(os.Stderr, "resuming %s after %d\n", turn.ID(), turn.Position().Seq)
	}
}

// printAnswer prints the text while it arrives. It reads the events, because the answer may begin again.
func printAnswer(turn *turnwire.Turn) error {
	asked.Store(turn)
	for event, err := range turn.Events() {
		if err != nil {
			return err
		}
		switch event := event.(type) {
		case *turnwire.Delta:
			if event.Kind == "text" {
				fmt.Print(event.Text)
			}
		case *turnwire.Reset:
			fmt.Print("\n(from the start)\n")
		}
	}
	fmt.Fprintln(os.Stderr, "turn."+turn.Status())
	return nil
}
