package turnwire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
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

func (c *core) start(ctx context.Context, key turnKey, fields map[string]any) *Turn {
	var t *Turn
	c.do(func() {
		if t = c.turns[key]; t != nil {
			return // a repeated start is the same turn (law 6)
		}
		t = newTurn(c, key)
		if ctx.Err() != nil {
			t.settle(nil)
			return
		}
		c.add(t)
		c.sendFor(t, key.user, "turn.start", fields, func(result json.RawMessage, err error) {
			if err != nil {
				c.fail(t, err)
				return
			}
			var accepted struct {
				Conversation string `json:"conversation"`
				Status       Status `json:"status"`
			}
			_ = json.Unmarshal(result, &accepted)
			t.accepted(accepted.Conversation, accepted.Status)
		})
		t.watch(ctx, func(cause error) { c.stopTurn(t, cause) })
	})
	return t
}

// stopTurn cancels a turn because its context is done.
func (c *core) stopTurn(t *Turn, cause error) {
	reason := ""
	if !errors.Is(cause, context.Canceled) {
		reason = cause.Error()
	}
	c.do(func() { c.cancel(t, reason, func(Outcome, error) {}) })
}

func (c *core) cancelTurn(ctx context.Context, t *Turn, reason string) (Outcome, error) {
	type answered struct {
		outcome Outcome
		err     error
	}
	answer := make(chan answered, 1)
	c.do(func() { c.cancel(t, reason, func(outcome Outcome, err error) { answer <- answered{outcome, err} }) })
	select {
	case got := <-answer:
		return got.outcome, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// cancel needs the lock.
func (c *core) cancel(t *Turn, reason string, done func(Outcome, error)) {
	if t.hasEnded() {
		c.after = append(c.after, func() { done(OutcomeAlreadyEnded, nil) })
		return
	}
	if t.starting != nil && !t.starting.sent {
		c.requests.remove(t.starting) // the gateway can't have accepted it
		c.end(t, nil)
		c.after = append(c.after, func() { done(OutcomeCancelled, nil) })
		return
	}
	fields := map[string]any{"turns": []string{t.key.id}}
	if reason != "" {
		fields["reason"] = shortened(reason, reasonMax)
	}
	c.send(t.key.user, "turn.cancel", fields, func(result json.RawMessage, err error) {
		var answer struct {
			Turns map[string]Outcome `json:"turns"`
		}
		if err == nil {
			err = json.Unmarshal(result, &answer)
		}
		if err != nil {
			done("", err)
			return
		}
		outcome := answer.Turns[t.key.id]
		c.do(func() {
			// A start that has no answer yet gets its own. Any other turn that isn't found no longer exists.
			if outcome == OutcomeNotFound && t.starting == nil {
				c.end(t, &Error{Code: "not_found", Message: "The gateway no longer has this turn. Start it again."})
			}
		})
		done(outcome, nil)
	})
}

// shortened returns the first characters of a text.
func shortened(text string, chars int) string {
	for at := range text {
		if chars--; chars < 0 {
			return text[:at]
		}
	}
	if !utf8.ValidString(text) {
		return string([]rune(text))
	}
	return text
}

func (c *core) follow(ctx context.Context, key turnKey, position Position) *Turn {
	var t *Turn
	c.do(func() {
		if t = c.turns[key]; t != nil {
			return
		}
		t = newTurn(c, key)
		t.position, t.partial = position, position.Seq > 0
		if c.closed != nil {
			t.settle(c.closed)
			return
		}
		c.add(t)
		if c.overHTTP {
			c.streamHTTP(t, nil)
		}
		c.attach(t)
		t.watch(ctx, func(cause error) {
			c.do(func() {
				if c.end(t, cause) {
					c.send(key.user, "turn.detach", map[string]any{"turn": key.id}, func(json.RawMessage, error) {})
				}
			})
		})
	})
	return t
}

// add follows a turn. It needs the lock.
func (c *core) add(t *Turn) {
	c.turns[t.key] = t
	delete(c.past, t.key)
}

// fail ends a turn on this side only.
func (c *core) fail(t *Turn, err error) { c.do(func() { c.end(t, err) }) }

// end ends a turn on this side only, as cancelled if err is nil. It returns whether it hadn't ended. It needs the lock.
func (c *core) end(t *Turn, err error) bool {
	c.forget(t, false)
	return t.settle(err)
}

// forget stops following a turn. It needs the lock.
func (c *core) forget(t *Turn, ended bool) {
	if c.turns[t.key] != t {
		return
	}
	delete(c.turns, t.key)
	if _, known := c.past[t.key]; !known {
		c.pastOrder = append(c.pastOrder, t.key)
	}
	c.past[t.key] = ended
	if len(c.pastOrder) > outcomesMax {
		delete(c.past, c.pastOrder[0])
		c.pastOrder = slices.Delete(c.pastOrder, 0, 1)
	}
}

// attach attaches to turns from their positions, if there is a socket and they aren't attached. It needs the lock.
func (c *core) attach(turns ...*Turn) {
	if c.socket == nil {
		return // everything is attached when there is one
	}
	byUser := map[string][]*Turn{}
	for _, t := range turns {
		if t.attachment == detached && !t.hasEnded() {
			t.attachment = attaching
			byUser[t.key.user] = append(byUser[t.key.user], t)
		}
	}
	for user, all := range byUser {
		for some := range slices.Chunk(all, positionsMax) {
			positions := map[string]Position{}
			for _, t := range some {
				positions[t.key.id] = t.Position()
			}
			socket := c.socket
			c.send(user, "turn.attach", map[string]any{"positions": positions}, func(result json.RawMessage, err error) {
				c.do(func() { c.onAttached(socket, some, result, err) })
			})
		}
	}
}

// onAttached applies the answer to a turn.attach. It needs the lock.
func (c *core) onAttached(socket *socket, turns []*Turn, result json.RawMessage, err error) {
	if socket != c.socket {
		return // the next socket attaches again
	}
	var answer struct {
		Turns map[string]struct {
			Conversation string `json:"conversation"`
			Status       Status `json:"status"`
			Error        *Error `json:"error"`
		} `json:"turns"`
	}
	if err == nil {
		err = json.Unmarshal(result, &answer)
	}
	for _, t := range turns {
		t.attachment = detached
		got, found := answer.Turns[t.key.id]
		refusal := err
		switch {
		case err != nil:
		case !found:
			refusal = &Error{Code: "internal", Message: "The gateway's answer leaves out this turn. Attach again."}
		case got.Error != nil:
			refusal = got.Error
		}
		switch {
		case refusal == nil && t.again:
			t.again = false
			c.attach(t)
		case refusal == nil:
			t.attachment = attached
			t.accepted(got.Conversation, got.Status)
		case isRetryable(refusal):
			wait := max(retryAfter(refusal), 0)
			if wait == 0 {
				wait = attachRetry
			}
			time.AfterFunc(wait, func() {
				c.do(func() {
					if socket == c.socket {
						c.attach(t)
					}
				})
			})
		default:
			c.end(t, refusal)
		}
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

// receive handles a frame. An error means that it can't be understood.
func (c *core) receive(raw []byte, retry *backoff) error {
	var frame struct {
		Type string `json:"type"`
		As   string `json:"as"`
		Turn string `json:"turn"`
		Seq  *int64 `json:"seq"`
	}
	if err := json.Unmarshal(raw, &frame); err != nil || frame.Type == "" {
		// A later version may have frames of other types, whose fields have another meaning.
		if err == nil || frame.Type == "" || knownTypes[frame.Type] {
			return cmp.Or(err, errors.New("the frame has no type"))
		}
		frame.Turn = ""
	}
	switch {
	case frame.Type == "result" || frame.Type == "result.piece" || frame.Type == "error":
		return c.receiveAnswer(frame.Type, raw)
	case frame.Turn != "":
		return c.receiveEvent(turnKey{frame.As, frame.Turn}, frame.Type, frame.Seq != nil, raw)
	case frame.Type == "heartbeat":
		return nil
	}
	c.receiveNotice(frame.Type, raw, retry)
	c.notify(Notice{Type: frame.Type, As: frame.As, Raw: raw})
	return nil
}

// knownTypes are the frames whose fields this package reads.
var knownTypes = map[string]bool{
	"result": true, "result.piece": true, "error": true, "turn.started": true, "turn.status": true, "turn.part": true,
	"turn.delta": true, "turn.reset": true, "turn.completed": true, "turn.cancelled": true, "turn.failed": true,
	"turn.detached": true,
}

func (c *core) receiveAnswer(kind string, raw []byte) error {
	var answer answerFrame
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	if answer.ID == "" {
		c.logger.Warn("turnwire: the gateway refused a frame", "error", answer.Error)
		return nil
	}
	c.do(func() {
		if one, result, err := c.requests.receive(kind, answer); one != nil {
			c.after = append(c.after, func() { one.done(result, err) })
		}
	})
	return nil
}

// receiveNotice applies a frame about the connection.
func (c *core) receiveNotice(kind string, raw []byte, retry *backoff) {
	var notice struct {
		ReconnectAfterMS *int64 `json:"reconnect_after_ms"`
		ExpiresAt        string `json:"expires_at"`
	}
	if json.Unmarshal(raw, &notice) != nil {
		return
	}
	switch kind {
	case "going_away":
		if notice.ReconnectAfterMS != nil {
			wait := max(0, time.Duration(*notice.ReconnectAfterMS)*time.Millisecond)
			retry.requested = wait + rand.N(wait/4+1)
		}
	case "auth.expiring":
		c.renew(notice.ExpiresAt)
	}
}

func (c *core) receiveEvent(key turnKey, kind string, numbered bool, raw []byte) error {
	event, err := newEvent(kind, raw)
	if err != nil {
		return err
	}
	c.do(func() {
		t, ended := c.turns[key], c.past[key]
		switch {
		case t != nil && kind == "turn.detached":
			if t.attachment == attaching {
				t.again = true
				return
			}
			t.attachment = detached
			c.attach(t)
		case t != nil:
			c.apply(t, event, numbered)
		case ended && numbered:
			c.violated(&LawViolation{Law: 2, Turn: key.id, Detail: kind + " came after the ending"})
		default:
			c.notify(Notice{Type: kind, As: key.user, Raw: raw})
		}
	})
	return nil
}

// apply needs the lock.
func (c *core) apply(t *Turn, event Event, numbered bool) {
	ended, err := t.receive(event, numbered)
	if err != nil {
		c.violated(err.(*LawViolation))
		c.end(t, err)
		// Further events can't be applied.
		c.send(t.key.user, "turn.detach", map[string]any{"turn": t.key.id}, func(json.RawMessage, error) {})
		return
	}
	if t.attachment == detached {
		t.attachment = attached
	}
	if ended {
		c.forget(t, true)
	}
}

// violated needs the lock.
func (c *core) violated(violation *LawViolation) {
	c.logger.Error("turnwire: the gateway broke a law of the protocol", "error", violation)
	if len(c.facts.Violations) < violationsMax {
		c.facts.Violations = append(c.facts.Violations, violation)
	}
}

// renew sends a new credential on the open connection.
func (c *core) renew(expiresAt string) {
	source := c.token
	if source == nil {
		source = c.ticket
	}
	c.mu.Lock()
	// Each expiry causes one attempt: if a renewal left it unchanged, another one probably would too.
	needless := source == nil || c.isStatic || expiresAt == c.renewed
	c.renewed = expiresAt
	c.mu.Unlock()
	if needless {
		return
	}
	c.running.Add(1) // by the reader, which Close waits for
	go func() {
		defer c.running.Done()
		ctx, done := context.WithTimeout(c.ctx, readyTimeout)
		defer done()
		token, err := call(ctx, "token source", source)
		if err == nil && token != "" {
			_, err = c.request(ctx, "", "auth", map[string]any{"token": token})
		}
		if err != nil {
			c.logger.Warn("turnwire: the credential couldn't be renewed", "error", err)
		}
	}()
}

// call calls a function of the program for a credential. A panic is returned as a *PanicError.
func call(ctx context.Context, name string, source TokenSource) (string, error) {
	type result struct {
		token string
		err   error
	}
	got := make(chan result, 1)
	go func() {
		defer func() {
			if value := recover(); value != nil {
				got <- result{err: &PanicError{Callback: name, Value: value}}
			}
		}()
		token, err := source(ctx)
		got <- result{token, err}
	}()
	select {
	case one := <-got:
		return one.token, one.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (c *core) notify(notice Notice) {
	if c.onNotice != nil {
		c.notices.add(c, "notice handler", func() { c.onNotice(notice) })
	}
}

// noticesMax bounds the calls that wait for a slow handler.
const noticesMax = 10_000

// notices calls the program's handlers one after the other, on a goroutine that lives while there is something to call.
type notices struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

func (n *notices) add(c *core, name string, handle func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= noticesMax {
		return
	}
	n.waiting = append(n.waiting, func() {
		defer func() {
			if value := recover(); value != nil {
				c.logger.Error("turnwire: a handler failed", "error", &PanicError{Callback: name, Value: value})
			}
		}()
		handle()
	})
	if !n.running {
		n.running = true
		go n.run()
	}
}

func (n *notices) run() {
	for {
		n.mu.Lock()
		if len(n.waiting) == 0 {
			n.running = false
			n.mu.Unlock()
			return
		}
		next := n.waiting[0]
		n.waiting = n.waiting[1:]
		n.mu.Unlock()
		next()
	}
}
