package turnwire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coder/websocket"
)

const (
	protocolName = "turnwire.v1"
	readyTimeout = 10 * time.Second
	// heartbeatsMax is the silence in heartbeats after which a socket counts as dead.
	heartbeatsMax = 2.5
	frameBytesMax = 1 << 20

	retryBase   = 500 * time.Millisecond
	retryMax    = 20 * time.Second
	stableAfter = 5 * time.Second

	closeUnauthenticated = 4401
	closeLifetime        = 4502
)

// backoff says how long to wait before the next attempt.
type backoff struct {
	failures int
	// requested is the wait that the gateway asks for; negative: none.
	requested time.Duration
}

func (b *backoff) next() time.Duration {
	requested := b.requested
	b.requested = -1
	if requested >= 0 {
		return requested
	}
	// Full jitter: the clients of a gateway that restarts don't all come at the same moment.
	return rand.N(min(retryMax, retryBase<<min(b.failures, 10)))
}

// run connects again and again, until the client is closed.
func (c *core) run(ctx context.Context) {
	retry := backoff{requested: -1}
	refused := false // the last credential was refused, and no connection was ready since
	var lost error   // why there is no connection; nil before the first attempt
	for ctx.Err() == nil {
		c.do(func() { c.setState(State{Name: "connecting", Err: lost}) })
		opened, ready, err := c.openAny(ctx)
		if c.useHTTP(ctx, err) {
			c.serveHTTP(ctx)
			return
		}
		var since time.Time
		if err == nil {
			c.failFast, refused, since = false, false, time.Now()
			err = c.serve(ctx, opened, ready, &retry)
		}
		if ctx.Err() != nil {
			return
		}
		if !since.IsZero() && time.Since(since) > stableAfter {
			retry.failures = 0
		} else {
			retry.failures++
		}
		final, mayRenew := c.judge(err)
		if mayRenew && !refused {
			final, refused = false, true // a fresh credential may be accepted
			retry.requested = 0
		}
		if final {
			c.shutDown(err)
			return
		}
		if wait := retryAfter(err); wait > 0 {
			retry.requested = wait + rand.N(wait/4+1)
		}
		wait := retry.next()
		lost = err
		c.do(func() { c.setState(State{Name: "waiting", Err: lost, Retry: wait}) })
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// judge says whether a lost or refused connection is final, and whether a new credential may change that.
func (c *core) judge(err error) (final, mayRenew bool) {
	renewable := (c.token != nil && !c.isStatic) || c.ticket != nil
	var (
		dial     *DialError
		closed   *CloseError
		panicked *PanicError
		coded    *Error
	)
	switch {
	case errors.As(err, &closed):
		return true, renewable && closed.Code == closeUnauthenticated
	case errors.As(err, &dial):
		final = dial.final || c.failFast && !dial.invited
		return final, renewable && dial.Err.Code == "unauthenticated"
	case errors.As(err, &panicked):
		return true, false
	case errors.As(err, &coded):
		return c.failFast || !coded.Retryable && coded.Code != CodeConnectionLost, false
	}
	return c.failFast, false
}

// serve reads frames until the socket is lost, and returns why.
func (c *core) serve(ctx context.Context, opened *socket, ready readyFrame, retry *backoff) error {
	reading, lose := context.WithCancelCause(context.Background())
	defer lose(nil)
	closed := make(chan struct{})
	keep := context.AfterFunc(ctx, func() {
		defer close(closed)
		opened.close()
	})
	silence := time.Duration(ready.HeartbeatS * heartbeatsMax * float64(time.Second))
	if silence <= 0 {
		silence = 40 * time.Second
	}
	watchdog := time.AfterFunc(silence, func() { lose(errors.New("the gateway sent nothing for too long")) })
	defer watchdog.Stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := opened.write(reading); err != nil {
			lose(err)
		}
	}()
	c.do(func() {
		c.socket, c.facts.Transport = opened, Socket
		if c.closed == nil {
			c.onLive(ready.User)
		}
	})
	err := c.read(reading, opened, watchdog, silence, retry)
	c.do(c.onLost)
	if cause := context.Cause(reading); cause != nil {
		err = cause
	}
	if !keep() {
		<-closed
	}
	lose(err)
	_ = opened.conn.CloseNow()
	<-written
	code := int(websocket.CloseStatus(err))
	switch {
	case code >= 4400 && code < 4500:
		return closeError(code, err)
	case code == closeLifetime:
		retry.requested = 0
	}
	return &Error{Code: CodeConnectionLost, Message: "The connection was lost. It is opened again.", Retryable: true, cause: err}
}

func (c *core) read(ctx context.Context, opened *socket, watchdog *time.Timer, silence time.Duration, retry *backoff) error {
	for {
		raw, err := opened.read(ctx)
		if err != nil {
			return err
		}
		watchdog.Reset(silence)
		if err := c.receive(raw, retry); err != nil {
			return fmt.Errorf("%w: %w", errUndecodable, err)
		}
	}
}
