package turnwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"turnwire/clients/go/internal/msgpack"
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

// addresses returns the URL of the socket and that of the HTTP API, which is the folder of the socket.
func addresses(given string) (socket, base string, err error) {
	invalid := func(why string) error {
		return &DialError{URL: "the address", Err: &Error{
			Code: CodeInvalidURL, Message: why + " Use the address of a gateway's socket, such as ws://127.0.0.1:8000/ws.",
		}, final: true}
	}
	parsed, err := url.Parse(given)
	if err != nil {
		return "", "", invalid("It isn't a URL.")
	}
	switch parsed.Scheme {
	case "ws", "http":
		parsed.Scheme = "ws"
	case "wss", "https":
		parsed.Scheme = "wss"
	default:
		return "", "", invalid(fmt.Sprintf("%q isn't a ws, wss, http or https URL.", given))
	}
	if parsed.Hostname() == "" {
		return "", "", invalid(fmt.Sprintf("%q names no host.", given))
	}
	parsed.Fragment = ""
	if strings.Trim(parsed.Path, "/") == "" {
		parsed.Path = "/ws"
	}
	folder := *parsed
	folder.Scheme = "http" + strings.TrimPrefix(parsed.Scheme, "ws")
	folder.RawQuery, folder.RawPath = "", ""
	folder.Path = parsed.Path[:strings.LastIndex(parsed.Path, "/")]
	return parsed.String(), folder.String(), nil
}

// readyFrame is the first frame of the gateway.
type readyFrame struct {
	Type       string  `json:"type"`
	Protocol   string  `json:"protocol"`
	User       string  `json:"user"`
	HeartbeatS float64 `json:"heartbeat_s"`
	Limits     struct {
		FrameBytes int `json:"frame_bytes"`
	} `json:"limits"`
	Error *Error `json:"error"`
}

// socket is an open WebSocket. Frames are written by a goroutine of its own.
type socket struct {
	conn       *websocket.Conn
	codec      Codec
	frameBytes int

	mu      sync.Mutex
	waiting [][]byte
	wake    chan struct{}
}

// send queues a frame. It fails if the gateway would close the socket because of it.
func (s *socket) send(frame []byte) error {
	var err error
	if s.codec == MessagePack {
		if frame, err = msgpack.FromJSON(frame); err != nil {
			return invalidFields(err)
		}
	}
	if len(frame) > s.frameBytes {
		return &Error{Code: "too_large", Message: fmt.Sprintf(
			"The request has %d bytes, and a frame may have %d. Shorten it, or send it over HTTP.", len(frame), s.frameBytes)}
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, frame)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// close closes the socket for good. A peer that doesn't answer the close isn't waited for.
func (s *socket) close() {
	impatient := time.AfterFunc(time.Second, func() { _ = s.conn.CloseNow() })
	defer impatient.Stop()
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
}

// write writes the queued frames until ctx is done.
func (s *socket) write(ctx context.Context) error {
	kind := websocket.MessageText
	if s.codec == MessagePack {
		kind = websocket.MessageBinary
	}
	for {
		s.mu.Lock()
		waiting := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		for _, frame := range waiting {
			if err := s.conn.Write(ctx, kind, frame); err != nil {
				return err
			}
		}
		if len(waiting) > 0 {
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

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
	for ctx.Err() == nil {
		c.do(func() { c.setState(State{Name: "connecting"}) })
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
		c.do(func() { c.setState(State{Name: "waiting", Err: err, Retry: wait}) })
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

// openAny opens a socket, or if the transport is HTTP, finds out whether the gateway answers.
func (c *core) openAny(ctx context.Context) (*socket, readyFrame, error) {
	if c.transport == HTTP {
		return nil, readyFrame{}, c.probe(ctx)
	}
	return c.open(ctx)
}

// open opens a socket and waits for the first frame.
func (c *core) open(ctx context.Context) (*socket, readyFrame, error) {
	ctx, done := context.WithTimeout(ctx, readyTimeout)
	defer done()
	header := c.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	address := c.url
	if c.token != nil {
		token, err := call(ctx, "token source", c.token)
		if err != nil {
			return nil, readyFrame{}, err
		}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
	} else if c.ticket != nil {
		ticket, err := call(ctx, "ticket source", c.ticket)
		if err != nil {
			return nil, readyFrame{}, err
		}
		parsed, _ := url.Parse(c.url)
		query := parsed.Query()
		query.Set("ticket", ticket)
		parsed.RawQuery = query.Encode()
		address = parsed.String()
	}
	subprotocol := protocolName + "." + string(c.codec)
	conn, response, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: header, Subprotocols: []string{subprotocol},
	})
	if err != nil {
		return nil, readyFrame{}, c.refusal(response, err)
	}
	conn.SetReadLimit(frameBytesMax)
	opened := &socket{conn: conn, codec: c.codec, wake: make(chan struct{}, 1)}
	ready, err := c.firstFrame(ctx, opened, subprotocol)
	if err != nil {
		_ = conn.CloseNow()
		return nil, ready, err
	}
	opened.frameBytes = ready.Limits.FrameBytes
	if opened.frameBytes <= 0 {
		opened.frameBytes = 64 << 10
	}
	return opened, ready, nil
}

func (c *core) firstFrame(ctx context.Context, opened *socket, subprotocol string) (readyFrame, error) {
	var ready readyFrame
	foreign := func(code, why string) error {
		return &DialError{URL: c.shown(), Status: http.StatusSwitchingProtocols, Err: &Error{Code: code, Message: why}, final: true}
	}
	if opened.conn.Subprotocol() != subprotocol {
		return ready, foreign(CodeNotAGateway, "The server opened a WebSocket without the protocol "+subprotocol+
			". Check the address: this isn't a gateway that this client understands.")
	}
	raw, err := opened.read(ctx)
	if code := int(websocket.CloseStatus(err)); code >= 4400 && code < 4500 {
		return ready, closeError(code, err)
	}
	if errors.Is(err, errUndecodable) {
		return ready, foreign(CodeNotAGateway, "The server's first frame isn't that of a gateway. Check the address.")
	}
	if err != nil {
		return ready, c.unreachable(err)
	}
	err = json.Unmarshal(raw, &ready)
	switch {
	case err == nil && ready.Type == "error" && ready.Error != nil:
		return ready, &DialError{URL: c.shown(), Status: http.StatusSwitchingProtocols, Err: ready.Error, final: !ready.Error.Retryable}
	case err != nil || ready.Type != "ready":
		return ready, foreign(CodeNotAGateway, "The server's first frame isn't that of a gateway. Check the address.")
	case ready.Protocol != protocolName:
		return ready, foreign(CodeProtocol, fmt.Sprintf(
			"The gateway speaks %q, and this client %s. Update the older one of them.", ready.Protocol, protocolName))
	}
	return ready, nil
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

var errUndecodable = errors.New("the gateway sent a frame that can't be decoded")

// read returns the next frame as JSON.
func (s *socket) read(ctx context.Context) ([]byte, error) {
	kind, data, err := s.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if (kind == websocket.MessageBinary) != (s.codec == MessagePack) {
		return nil, errUndecodable
	}
	if s.codec == MessagePack {
		if data, err = msgpack.ToJSON(data); err != nil {
			return nil, fmt.Errorf("%w: %w", errUndecodable, err)
		}
	}
	return data, nil
}

func closeError(code int, cause error) error {
	reason, known := closeReasons[code]
	if !known {
		reason = Error{Code: CodeConnectionClosed, Message: "The gateway closed the connection for good. Read its log."}
	}
	reason.cause = cause
	return &CloseError{Code: code, Err: &reason}
}

// shown returns the URL for errors: without a query, which may have a ticket, and without a password.
func (c *core) shown() string {
	parsed, err := url.Parse(c.url)
	if err != nil {
		return c.url
	}
	parsed.RawQuery = ""
	return parsed.Redacted()
}

// refusal explains why the gateway, or what answers in its place, opened no socket.
func (c *core) refusal(response *http.Response, cause error) error {
	if response == nil {
		return c.unreachable(cause)
	}
	var body []byte
	if response.Body != nil {
		body, _ = io.ReadAll(io.LimitReader(response.Body, 64<<10))
	}
	refused := &DialError{URL: c.shown(), Status: response.StatusCode}
	if refused.Err = errorIn(body); refused.Err != nil {
		refused.final, refused.invited = !refused.Err.Retryable, refused.Err.Retryable
		var listed struct {
			Subprotocols []string `json:"subprotocols"`
		}
		if json.Unmarshal(body, &listed) == nil && response.StatusCode == http.StatusBadRequest && len(listed.Subprotocols) > 0 {
			refused.Err.Code = CodeProtocol
			refused.Err.Message = fmt.Sprintf("The gateway speaks %s, and this client %s.%s. Update the older one of them.",
				strings.Join(listed.Subprotocols, ", "), protocolName, c.codec)
		}
		if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && refused.Err.RetryAfterMS == 0 {
			refused.Err.RetryAfterMS = int64(seconds) * 1000
		}
		return refused
	}
	switch status := response.StatusCode; {
	case status == http.StatusTooManyRequests || status == http.StatusBadGateway || status == http.StatusServiceUnavailable ||
		status == http.StatusGatewayTimeout:
		refused.Err = &Error{Code: CodeUnreachable, Retryable: true, cause: cause,
			Message: fmt.Sprintf("A proxy answers HTTP %d in place of the gateway. Check that the gateway runs.", status)}
	default:
		refused.Err = &Error{Code: CodeNotAGateway, cause: cause,
			Message: fmt.Sprintf("HTTP %d: no WebSocket of a gateway is here. Check the address, which usually ends in /ws.", status)}
		refused.final = true
	}
	return refused
}

// unreachable explains an error of the network or of TLS.
func (c *core) unreachable(cause error) error {
	failed := &DialError{URL: c.shown()}
	switch {
	case isUntrusted(cause):
		failed.final = true
		failed.Err = &Error{Code: CodeUntrusted, cause: cause,
			Message: "The certificate isn't trusted. Trust the authority that signed it, with WithHTTPClient. The cause: " + rootCause(cause) + "."}
	case isNotTLS(cause):
		failed.final = true
		failed.Err = &Error{Code: CodeNotAGateway, cause: cause, Message: "The server doesn't speak TLS here. Use a ws URL, or another port."}
	case errors.Is(cause, context.DeadlineExceeded):
		failed.Err = &Error{Code: CodeUnreachable, Retryable: true, cause: cause,
			Message: "The server didn't answer as a gateway within 10 s. Check the address and the network."}
	default:
		failed.Err = &Error{Code: CodeUnreachable, Retryable: true, cause: cause,
			Message: "The gateway can't be reached. Check the address, and that it runs. The cause: " + rootCause(cause) + "."}
	}
	return failed
}
