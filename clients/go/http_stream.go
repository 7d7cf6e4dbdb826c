package turnwire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// serveHTTP makes HTTP the transport, until the client is closed.
func (c *core) serveHTTP(ctx context.Context) {
	c.do(func() {
		if c.closed == nil {
			c.overHTTP, c.facts.Transport = true, HTTP
			c.onLive("")
			for _, t := range c.turns {
				if t.starting == nil {
					c.streamHTTP(t, nil)
				}
			}
		}
	})
	<-ctx.Done()
}

// sendHTTP sends a request. It needs the lock.
func (c *core) sendHTTP(one *request) {
	one.sent = true
	if one.kind == "turn.start" && one.turn != nil {
		c.streamHTTP(one.turn, one)
		return
	}
	c.spawn(func() {
		result, err := c.resultHTTP(one)
		c.finish(one, result, err)
	})
}

// body returns the fields of a request without those that only a frame has.
func (r *request) body() []byte {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(r.frame, &fields)
	delete(fields, "type")
	delete(fields, "id")
	body, _ := json.Marshal(fields)
	return body
}

// startLarge sends a turn.start that doesn't fit in a frame over HTTP, and follows its turn on the socket. It needs the lock.
func (c *core) startLarge(one *request) {
	one.sent, one.large = true, true
	c.spawn(func() {
		body, header := one.body(), http.Header{"Prefer": {"respond-async"}}
		result, err := c.insisted(one, func() (json.RawMessage, error) { return c.whole(http.MethodPost, "/v1/turns", body, header) })
		turn := one.turn
		c.finish(one, result, err)
		if err == nil && turn != nil {
			c.do(func() { c.attach(turn) })
		}
	})
}

// streamHTTP starts a turn, or follows it if start is nil. It needs the lock.
func (c *core) streamHTTP(t *Turn, start *request) {
	if t.key.user != "" {
		c.end(t, &Error{Code: CodeUnsupported, Message: "Acting for users needs a WebSocket, and this client uses HTTP."})
		return
	}
	c.spawn(func() {
		ctx, stop := context.WithCancel(c.ctx)
		defer stop()
		retry := backoff{requested: -1}
		for !t.hasEnded() && ctx.Err() == nil {
			position := t.Position()
			err := c.stream(ctx, t, start, &retry)
			if t.hasEnded() || ctx.Err() != nil {
				return
			}
			if CodeOf(err) != "" && !isRetryable(err) {
				c.fail(t, err)
				return
			}
			if wait := retryAfter(err); wait > 0 {
				retry.requested = wait
			}
			if retry.failures++; t.Position() != position {
				retry.failures = 0
			}
			select {
			case <-time.After(retry.next()):
			case <-t.done:
			case <-ctx.Done():
			}
		}
	})
}

// stream reads one stream of a turn until its end.
func (c *core) stream(ctx context.Context, t *Turn, start *request, retry *backoff) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	silence := time.AfterFunc(streamSilence, stop)
	defer silence.Stop()
	t.onEnd(func() bool { stop(); return true })
	method, path, header := http.MethodGet, "/v1/turns/"+url.PathEscape(t.key.id)+"/events", http.Header{"Accept": {"text/event-stream"}}
	var body []byte
	if position := t.Position(); position.Seq > 0 {
		header.Set("Last-Event-ID", fmt.Sprintf("%d-%d", position.Epoch, position.Seq))
	} else if start != nil {
		method, path, body = http.MethodPost, "/v1/turns", start.body()
	}
	response, err := c.exchange(ctx, method, path, body, header)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if start != nil {
		c.finish(start, json.RawMessage("{}"), nil)
	}
	if response.StatusCode == http.StatusNoContent {
		return goneAtEnding(nil)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, frameBytesMax)
	var data []byte
	for lines.Scan() {
		silence.Reset(streamSilence)
		line := lines.Bytes()
		var frame []byte
		switch {
		case bytes.HasPrefix(line, []byte("data:")):
			data = append(data, bytes.TrimPrefix(line[5:], []byte(" "))...)
		case bytes.HasPrefix(line, []byte(": {")):
			frame = bytes.Clone(line[2:])
		case len(line) == 0 && data != nil:
			frame, data = data, nil
		}
		if frame != nil {
			if err := c.receive(frame, retry); err != nil {
				return err
			}
		}
		if t.hasEnded() {
			return nil
		}
	}
	return lines.Err()
}
