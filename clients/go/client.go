package turnwire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Client is a connection to a gateway that opens again after a loss. It carries any number of turns and requests at the
// same time, and its methods may be called by many goroutines.
type Client struct {
	core *core
	user string
}

// Dial connects to a gateway, and returns when the gateway is ready. The URL is that of the socket, such as
// wss://chat.example.com/ws; an http or https URL is accepted, and so is one without a path, which gets /ws.
//
// If the first connection can't be opened, Dial returns a *DialError at once, unless the gateway asks to come again, as one
// that restarts does: then Dial tries until ctx is done. The context is only for Dial.
func Dial(ctx context.Context, url string, options ...Option) (*Client, error) {
	client, err := newClient(url, options, true)
	if err != nil {
		return nil, err
	}
	if err := client.Ready(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// New returns a client that connects in the background, and tries until it is closed or refused for good. Starts and
// requests wait for the connection. The error is that of a URL or an option.
func New(url string, options ...Option) (*Client, error) { return newClient(url, options, false) }

func newClient(url string, options []Option, failFast bool) (*Client, error) {
	c, err := newCore(url, options, failFast)
	if err != nil {
		return nil, err
	}
	return &Client{core: c}, nil
}

// As returns a client that acts for a user, on the same connection. The credential needs the scope as. Close closes the
// connection for all of them.
func (c *Client) As(user string) *Client { return &Client{core: c.core, user: user} }

// Ready waits until the gateway can be used. If the client is closed, it returns why.
func (c *Client) Ready(ctx context.Context) error { return c.core.ready(ctx) }

// Close closes the connection and waits for the client's goroutines. Turns that are running continue at the gateway; here
// they fail with CodeConnectionClosed. For turns whose contexts are done, Close first waits for their cancellation, for at
// most 2 s. It returns nil, also if the client is closed already.
func (c *Client) Close() error {
	c.core.close()
	return nil
}

// Start starts a turn and returns at once. If the gateway refuses the start, the turn fails. If there is no connection, the
// start waits for one. A start with the id of a turn that this client follows returns that turn, and its ctx isn't used.
//
// When ctx is done before the turn has ended, the turn is cancelled at the gateway and at its provider, with the cause of ctx
// as the reason. If the gateway can't be reached, the turn fails here with that cause after 5 s, and the cancellation follows
// when there is a connection.
func (c *Client) Start(ctx context.Context, start Start) *Turn {
	fields := start.fields()
	id, given := fields["turn"].(string)
	if !given {
		id = newID()
		fields["turn"] = id
	}
	return c.core.start(ctx, turnKey{c.user, id}, fields)
}

// Attach follows a turn that was started elsewhere or earlier, from a position. The zero Position replays all of it. When
// ctx is done, the turn continues at the gateway, and fails here with the cause of ctx.
//
// From a later position, the message has only what follows, and a part that had begun before counts as text. From the position
// of the ending, nothing follows, and the turn fails with the code gone: GetTurn has its message.
func (c *Client) Attach(ctx context.Context, turn string, position Position) *Turn {
	return c.core.follow(ctx, turnKey{c.user, turn}, position)
}

// Request sends any request of the protocol and returns its result. The fields are a map or a struct with the names on the
// wire; nil means none. A request that is safe to repeat is sent again after a loss of the connection; any other one
// returns CodeConnectionLost.
//
// When ctx is done, Request returns, but a request that was sent isn't taken back.
func (c *Client) Request(ctx context.Context, kind string, fields any) (json.RawMessage, error) {
	return c.core.request(ctx, c.user, kind, fields)
}

// Stats are facts about a connection, for monitoring and tests.
type Stats struct {
	// Transport is Socket or HTTP: the one in use.
	Transport Transport
	// Openings counts the connections that became ready.
	Openings int
	// Violations are the first 100 violations of a law of the protocol.
	Violations []*LawViolation
}

// Stats returns facts about the connection.
func (c *Client) Stats() Stats { return c.core.stats() }

// State is a state of the connection.
type State struct {
	// Name is connecting, live, waiting or closed.
	Name string
	// Err says why there is no connection; nil while it is live.
	Err error
	// Retry is the time until the next attempt, while the state is waiting.
	Retry time.Duration
	// User is the user of the connection, while it is live.
	User string
}

// newID returns an id of 128 random bits.
func newID() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // doesn't fail on the platforms of Go
	return "t_" + hex.EncodeToString(random)
}
