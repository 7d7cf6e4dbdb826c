package turnwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// closeGrace is how long Close waits for the cancellation of turns whose contexts are done.
	closeGrace = 2 * time.Second
	// attachRetry is the wait before turn.attach is sent again if the gateway doesn't name one.
	attachRetry = time.Second
	// positionsMax is the number of positions in one request. They fit in a frame of 64 KiB.
	positionsMax  = 200
	outcomesMax   = 2000
	violationsMax = 100
	reasonMax     = 300
)

// core is what all Clients of one connection share.
type core struct {
	settings
	url      string // of the socket
	base     string // of the HTTP API
	ctx      context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
	failFast bool

	mu       sync.Mutex
	requests requests
	turns    map[turnKey]*Turn
	// past has the latest turns that are over: whether the gateway has ended them.
	past      map[turnKey]bool
	pastOrder []turnKey
	socket    *socket // nil: there is none
	overHTTP  bool    // requests and turns go over HTTP
	state     State
	changed   chan struct{} // is closed at the next change of state
	closed    error         // why the client is closed for good
	facts     Stats
	renewed   string // the expiry for which the credential was renewed
	after     []func()
	notices   notices

	httpToken struct {
		mu    sync.Mutex
		token string
	}
}

func newCore(address string, options []Option, failFast bool) (*core, error) {
	s := settings{codec: JSON, transport: Auto, http: http.DefaultClient, logger: slog.New(quiet{})}
	for _, option := range options {
		option(&s)
	}
	if s.http == nil {
		s.http = http.DefaultClient
	}
	if s.logger == nil {
		s.logger = slog.New(quiet{})
	}
	url, base, err := addresses(address)
	if err != nil {
		return nil, err
	}
	if s.codec != JSON && s.codec != MessagePack {
		return nil, fmt.Errorf("turnwire: the codec %q is unknown: use turnwire.JSON or turnwire.MessagePack", s.codec)
	}
	if s.transport != Auto && s.transport != Socket && s.transport != HTTP {
		return nil, fmt.Errorf("turnwire: the transport %q is unknown: use turnwire.Auto, turnwire.Socket or turnwire.HTTP", s.transport)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &core{
		settings: s, url: url, base: base, ctx: ctx, stop: stop, failFast: failFast,
		requests: requests{pending: map[uint64]*request{}}, turns: map[turnKey]*Turn{}, past: map[turnKey]bool{},
		state: State{Name: "connecting"}, changed: make(chan struct{}),
	}
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		c.run(ctx)
	}()
	return c, nil
}

// do runs f with the lock, and then without it what f has put in c.after.
func (c *core) do(f func()) {
	c.mu.Lock()
	f()
	after := c.after
	c.after = nil
	c.mu.Unlock()
	for _, one := range after {
		one()
	}
}

// setState needs the lock.
func (c *core) setState(state State) {
	c.state = state
	close(c.changed)
	c.changed = make(chan struct{})
	if c.onState != nil {
		c.notices.add(c, "state handler", func() { c.onState(state) })
	}
}

func (c *core) ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		state, closed, changed := c.state.Name, c.closed, c.changed
		c.mu.Unlock()
		if closed != nil {
			return closed
		}
		if state == "live" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.mu.Lock()
			reason := c.state.Err
			c.mu.Unlock()
			return errors.Join(ctx.Err(), reason)
		}
	}
}

func (c *core) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	facts := c.facts
	facts.Violations = slices.Clone(facts.Violations)
	return facts
}

func (c *core) close() {
	var stopped []*Turn
	c.mu.Lock()
	reachable := c.closed == nil && (c.socket != nil || c.overHTTP)
	for _, t := range c.turns {
		if reachable && t.ctx != nil && t.ctx.Err() != nil {
			stopped = append(stopped, t)
		}
	}
	c.mu.Unlock()
	deadline := time.After(closeGrace)
	for _, t := range stopped {
		t.stop()
	}
	for _, t := range stopped {
		select {
		case <-t.done:
			continue
		case <-deadline:
		}
		break
	}
	c.shutDown(ErrClosed)
	c.running.Wait()
}

// shutDown closes the client for good. Everything that is unfinished fails with the error.
func (c *core) shutDown(err error) {
	c.do(func() {
		if c.closed != nil {
			return
		}
		c.closed = err
		for _, one := range c.requests.ordered() {
			c.requests.remove(one)
			c.after = append(c.after, func() { one.done(nil, err) })
		}
		for _, t := range c.turns {
			c.end(t, err)
		}
		c.setState(State{Name: "closed", Err: err})
	})
	c.stop()
}

// send makes a request and sends it if there is a connection. It needs the lock.
func (c *core) send(user, kind string, fields any, done func(json.RawMessage, error)) *request {
	return c.sendFor(nil, user, kind, fields, done)
}

// sendFor sends a request; t is the turn of a turn.start. It needs the lock.
func (c *core) sendFor(t *Turn, user, kind string, fields any, done func(json.RawMessage, error)) *request {
	err := c.closed
	if err == nil {
		var added *request
		if added, err = c.requests.add(user, kind, fields, done); err == nil {
			if added.turn = t; t != nil {
				t.starting = added
			}
			c.trySend(added)
			return added
		}
	}
	c.after = append(c.after, func() { done(nil, err) })
	return nil
}

// trySend needs the lock.
func (c *core) trySend(one *request) {
	if c.overHTTP {
		c.sendHTTP(one)
		return
	}
	if c.socket == nil || one.large {
		return
	}
	err := c.socket.send(one.frame)
	if CodeOf(err) == "too_large" && one.turn != nil && one.turn.key.user == "" {
		c.startLarge(one)
		return
	}
	if err != nil {
		c.requests.remove(one)
		c.after = append(c.after, func() { one.done(nil, err) })
		return
	}
	one.sent = true
}

func (c *core) request(ctx context.Context, user, kind string, fields any) (json.RawMessage, error) {
	type answered struct {
		result json.RawMessage
		err    error
	}
	answer := make(chan answered, 1)
	var sent *request
	c.do(func() {
		sent = c.send(user, kind, fields, func(result json.RawMessage, err error) { answer <- answered{result, err} })
	})
	select {
	case got := <-answer:
		return got.result, got.err
	case <-ctx.Done():
		c.do(func() {
			if sent != nil && !sent.sent {
				c.requests.take(sent)
			}
		})
		return nil, context.Cause(ctx)
	}
}

// onLive sends everything that waits for a connection. It needs the lock.
func (c *core) onLive(user string) {
	c.facts.Openings++
	c.setState(State{Name: "live", User: user})
	for _, t := range c.turns {
		t.attachment, t.again = detached, false
	}
	for _, one := range c.requests.ordered() {
		c.trySend(one)
	}
	var unattached []*Turn
	for _, t := range c.turns {
		if t.starting == nil {
			unattached = append(unattached, t)
		}
	}
	c.attach(unattached...)
}

// onLost keeps what can be continued on the next connection. It needs the lock.
func (c *core) onLost() {
	c.socket = nil
	for _, t := range c.turns {
		// Events have arrived, so the start isn't sent again: that would replay from the first event. The next connection
		// attaches from the position.
		if t.starting != nil && t.Position().Seq > 0 {
			c.requests.remove(t.starting)
		}
	}
	for _, one := range c.requests.lost() {
		c.after = append(c.after, func() { one.done(nil, connectionLost()) })
	}
}
