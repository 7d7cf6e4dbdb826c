// Package turnwire is a client of Turnwire, a gateway that streams the answers of language models.
//
// A [Client] is one WebSocket that opens again after a loss. It carries any number of turns at the same time, for one user
// or, with [Client.As], for many. A turn continues at the character at which its connection was lost, on any instance of
// the gateway. Where a proxy lets no WebSocket through, the client uses HTTP and server-sent events.
//
//	client, err := turnwire.Dial(ctx, "ws://127.0.0.1:8000/ws", turnwire.WithToken(token))
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	turn := client.Start(ctx, turnwire.Start{Input: "Hello", Model: "demo"})
//	for text, err := range turn.Text() {
//		if err != nil {
//			return err
//		}
//		fmt.Print(text)
//	}
//
// # Contexts
//
// The context of [Client.Start] is the turn's: when it is done, the turn is cancelled at the gateway and at its provider, so
// that no more tokens are paid for. The contexts of all other functions end only the call.
//
// # Errors
//
// Errors of the gateway are an [*Error] with a code of the protocol, which errors.As finds inside a [*TurnError], a
// [*DialError] or a [*CloseError]. [CodeOf] returns the code of any error of this package.
package turnwire

// Version is the version of this package, which is that of the gateway it comes with.
const Version = "0.1.0"
