package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	dialTimeout = 10 * time.Second
	// The gateway sends a heartbeat every 15 s if it sends nothing else.
	silenceMax = 45 * time.Second
	retryMin   = 250 * time.Millisecond
	retryMax   = 10 * time.Second
)

// start is a turn.start. It may be sent again unchanged until it is known to have been accepted: the turn's id makes it
// idempotent (law 6).
type start struct {
	Type   string          `json:"type"`
	ID     string          `json:"id"`
	As     string          `json:"as,omitempty"`
	Turn   string          `json:"turn"`
	Input  string          `json:"input"`
	Model  string          `json:"model,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
}

// client follows turns to their endings, and reconnects as often as necessary. With `as` in its starts, one socket carries
// the turns of many users, at most one for each user.
type client struct {
	url    string
	header http.Header
	starts map[string]start // by user; the user is "" without `as`
	turns  map[string]*turn
	// cancel is closed to cancel all turns.
	cancel <-chan struct{}
	// onText gets the new text. If again is true, the text starts over.
	onText func(user, text string, again bool)
	// onEvent gets a message about each change of the connection.
	onEvent func(what string)
}

// run returns when every turn has ended. It returns only errors that a reconnect can't fix.
func (c *client) run(ctx context.Context) error {
	failures := 0
	for {
		opened, err := c.once(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var final finalError
		if errors.As(err, &final) {
			return final.error
		}
		if opened {
			failures = 0
		}
		// Full jitter: the clients of a gateway that shuts down don't all reconnect at the same moment.
		wait := rand.N(min(retryMin<<min(failures, 10), retryMax))
		failures++
		var refused *apiError
		if errors.As(err, &refused) {
			wait += time.Duration(refused.RetryAfterMS) * time.Millisecond
		}
		c.onEvent(fmt.Sprintf("connection lost (%v), reconnecting in %v", err, wait.Round(time.Millisecond)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// finalError is an error after which the client must change something before it reconnects.
type finalError struct{ error }

// once opens a socket and follows the turns on it. It returns nil when all of them have ended, and an error if the socket
// is lost first.
func (c *client) once(ctx context.Context) (opened bool, err error) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	socket, err := c.dial(ctx)
	if err != nil {
		return false, err
	}
	defer socket.CloseNow()
	for user := range c.starts {
		if err := c.startOrResume(ctx, socket, user); err != nil {
			return true, err
		}
	}
	go func() {
		select {
		case <-c.cancel:
			for user := range c.starts {
				_ = send(ctx, socket, map[string]any{"type": "turn.cancel", "as": optional(user), "turn": c.starts[user].Turn})
			}
		case <-ctx.Done():
		}
	}()
	for !c.allEnded() {
		read, err := next(ctx, socket)
		if err != nil {
			return true, err
		}
		if err := c.apply(read); err != nil {
			return true, err
		}
	}
	_ = socket.Close(websocket.StatusNormalClosure, "") // nothing is lost if the gateway doesn't answer the close
	return true, nil
}

// dial opens a socket with the library's default settings. The library's limit of 32 KiB for a message is enough, because the
// gateway's frames are at most 16 KiB (law 10).
func (c *client) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, done := context.WithTimeout(ctx, dialTimeout)
	defer done()
	socket, response, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{
		HTTPHeader:   c.header,
		Subprotocols: []string{"turnwire.v1.json"},
	})
	if err != nil && response != nil && response.StatusCode >= 400 && response.StatusCode < 500 &&
		response.StatusCode != http.StatusTooManyRequests {
		return nil, finalError{err}
	}
	return socket, err
}

// startOrResume attaches to the user's turn at the held position, or starts the turn if the client holds no event of it.
func (c *client) startOrResume(ctx context.Context, socket *websocket.Conn, user string) error {
	held, asked := c.turns[user], c.starts[user]
	if held.ended != "" {
		return nil
	}
	if held.Seq == 0 {
		return send(ctx, socket, asked)
	}
	c.onEvent(fmt.Sprintf("resuming %s after %d", asked.Turn, held.Seq))
	return send(ctx, socket, map[string]any{
		"type": "turn.attach", "id": "attach " + user, "as": optional(user),
		"positions": map[string]position{asked.Turn: held.position},
	})
}

// apply applies a frame to its turn. If the frame is an answer with an error, it returns the error.
func (c *client) apply(f frame) error {
	if f.Type == "error" {
		if f.Error.Retryable {
			return f.Error // after the reconnect, the start or the attach is sent again
		}
		return finalError{f.Error}
	}
	if f.Type == "going_away" {
		c.onEvent("the gateway is shutting down")
		return nil
	}
	for _, attached := range f.Result.Turns {
		if attached.Error != nil {
			return finalError{attached.Error} // for example gone: the turn's message is in the history
		}
	}
	if f.Type == "turn.detached" && f.Reason == "gone" {
		return finalError{errors.New("the turn has ended, and its events are no longer kept: its message is in the history")}
	}
	if f.Type == "turn.detached" {
		return fmt.Errorf("detached: %s", f.Reason)
	}
	held := c.turns[f.As]
	if held == nil || f.Turn != c.starts[f.As].Turn {
		return nil
	}
	text, again, err := held.apply(f)
	if err != nil {
		return finalError{err}
	}
	if text != "" || again {
		c.onText(f.As, text, again)
	}
	return nil
}

func (c *client) allEnded() bool {
	for _, held := range c.turns {
		if held.ended == "" {
			return false
		}
	}
	return true
}

// next reads one frame. After a close code 44xx, the client must change something before it reconnects.
func next(ctx context.Context, socket *websocket.Conn) (frame, error) {
	ctx, done := context.WithTimeout(ctx, silenceMax)
	defer done()
	var read frame
	_, data, err := socket.Read(ctx)
	if code := websocket.CloseStatus(err); code >= 4400 && code < 4500 {
		return read, finalError{err}
	}
	if err != nil {
		return read, err
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return read, finalError{fmt.Errorf("not JSON: %w", err)}
	}
	return read, nil
}

func send(ctx context.Context, socket *websocket.Conn, request any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return finalError{err}
	}
	return socket.Write(ctx, websocket.MessageText, data)
}

// optional returns nil for an empty text: `as` may be absent or null, but not empty.
func optional(text string) any {
	if text == "" {
		return nil
	}
	return text
}
