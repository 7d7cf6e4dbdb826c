package turnwire_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	turnwire "turnwire/clients/go"
)

// The answer is printed while it arrives. An interrupt stops it.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := turnwire.Dial(ctx, "ws://127.0.0.1:8000/ws", turnwire.WithToken(os.Getenv("TURNWIRE_TOKEN")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	turn := client.Start(ctx, turnwire.Start{Input: "Hello"})
	for text, err := range turn.Text() {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Print(text)
	}
}

// Wait returns the whole answer. A turn that failed has the answer so far in its error.
func ExampleTurn_Wait() {
	client, err := turnwire.Dial(context.Background(), "ws://127.0.0.1:8000/ws")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, done := context.WithTimeout(context.Background(), time.Minute) // then the turn is cancelled
	defer done()
	message, err := client.Start(ctx, turnwire.Start{
		Input: "Hello", Model: "demo", Params: turnwire.Params{Temperature: turnwire.Ptr(0.2), MaxTokens: 500},
	}).Wait(context.Background())
	var failed *turnwire.TurnError
	switch {
	case errors.As(err, &failed):
		fmt.Println(turnwire.CodeOf(err), failed.Message.Text())
	case message.Ended == turnwire.StatusCancelled:
		fmt.Println("stopped:", message.Text())
	default:
		fmt.Println(message.Text(), message.Usage.OutputTokens)
	}
}

// Events are all that happens to a turn, by type.
func ExampleTurn_Events() {
	client, err := turnwire.Dial(context.Background(), "ws://127.0.0.1:8000/ws")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for event, err := range client.Start(context.Background(), turnwire.Start{Input: "Hello"}).Events() {
		if err != nil {
			log.Print(err)
			return
		}
		switch event := event.(type) {
		case *turnwire.Started:
			fmt.Println("accepted by", event.Model)
		case *turnwire.Delta:
			fmt.Print(event.Kind, ": ", event.Text)
		case *turnwire.Reset:
			fmt.Println("what was printed is void")
		case *turnwire.Completed:
			fmt.Println(event.FinishReason)
		}
	}
}

// A backend acts for all of its users on one connection. Its credential needs the scope as.
func ExampleClient_As() {
	client, err := turnwire.Dial(context.Background(), "wss://gateway.internal/ws", turnwire.WithToken(os.Getenv("TURNWIRE_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ann, bob := client.As("ann"), client.As("bob")
	first, second := ann.Start(context.Background(), turnwire.Start{Input: "Hello"}), bob.Start(context.Background(), turnwire.Start{Input: "Hi"})
	fmt.Println(first.Wait(context.Background()))
	fmt.Println(second.Wait(context.Background()))
}

// A token that expires is renewed on the open connection.
func ExampleWithTokenSource() {
	client, err := turnwire.Dial(context.Background(), "wss://chat.example.com/ws",
		turnwire.WithTokenSource(func(ctx context.Context) (string, error) {
			return "a fresh token", nil // from your identity provider
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for conversation, err := range client.Conversations(context.Background(), turnwire.ConversationList{Query: "invoice"}) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(conversation.ID, conversation.Title)
	}
}
