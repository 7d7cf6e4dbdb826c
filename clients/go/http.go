package turnwire

import (
	"bytes"
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
	"time"
)

const (
	probeTimeout  = 5 * time.Second
	answerTimeout = 60 * time.Second
	// streamSilence is 2.5 heartbeats.
	streamSilence = 37500 * time.Millisecond
	httpAttempts  = 5
	bodyBytesMax  = 64 << 20
)

// routes are the requests over HTTP. Fields in braces are taken from the request; the others go to the body or the query.
var routes = map[string]struct{ method, path string }{
	"turn.estimate":         {"POST", "/v1/turns/estimate"},
	"turn.get":              {"GET", "/v1/turns/{turn}"},
	"turn.cancel":           {"POST", "/v1/turns/{turn}/cancel"},
	"conversation.create":   {"POST", "/v1/conversations"},
	"conversation.list":     {"GET", "/v1/conversations"},
	"conversation.get":      {"GET", "/v1/conversations/{conversation}"},
	"conversation.update":   {"PATCH", "/v1/conversations/{conversation}"},
	"conversation.delete":   {"DELETE", "/v1/conversations/{conversation}"},
	"conversation.messages": {"GET", "/v1/conversations/{conversation}/messages"},
	"conversation.clear":    {"DELETE", "/v1/conversations/{conversation}/context"},
	"feedback.put":          {"POST", "/v1/messages/{message}/feedback"},
	"usage.get":             {"GET", "/v1/usage"},
	"models.list":           {"GET", "/v1/models"},
	"ping":                  {"GET", "/v1"},
}

// useHTTP says whether to go on over HTTP, because a gateway answers there and its WebSocket doesn't open.
func (c *core) useHTTP(ctx context.Context, err error) bool {
	var dial *DialError
	switch {
	case c.transport == HTTP:
		return err == nil
	case c.transport == Socket || c.stats().Openings > 0 || !errors.As(err, &dial):
		return false
	}
	blocked := dial.Err.Code == CodeNotAGateway || dial.Err.Code == CodeUnreachable || dial.Status == http.StatusUpgradeRequired
	return blocked && c.probe(ctx) == nil
}

// probe returns nil if a gateway answers over HTTP.
func (c *core) probe(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, probeTimeout)
	defer done()
	response, err := c.exchange(ctx, http.MethodGet, "/v1", nil, http.Header{"Accept": {"application/json"}})
	if err != nil {
		var refused *Error
		var network *url.Error
		switch {
		case errors.As(err, &network):
			return c.unreachable(err)
		case errors.As(err, &refused):
			asked := refused.Retryable && refused.Code != CodeUnreachable
			return &DialError{URL: c.shown(), Status: refused.status, Err: refused, final: !refused.Retryable, invited: asked}
		}
		return err // of the token source
	}
	defer response.Body.Close()
	var about struct{ Name, Protocol string }
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	failed := &DialError{URL: c.base, Status: response.StatusCode, final: true}
	switch err := json.Unmarshal(body, &about); {
	case err != nil || about.Name != "turnwire":
		failed.Err = &Error{Code: CodeNotAGateway, Message: "No gateway answers at /v1. Check the address."}
	case about.Protocol != protocolName:
		failed.Err = &Error{Code: CodeProtocol, Message: fmt.Sprintf(
			"The gateway speaks %q, and this client %s. Update the older one of them.", about.Protocol, protocolName)}
	default:
		return nil
	}
	return failed
}

// credential returns the credential of HTTP requests. The source is asked again if `not` is the one that it gave last.
func (c *core) credential(ctx context.Context, not string) (string, error) {
	if c.token == nil {
		return "", nil
	}
	c.httpToken.mu.Lock()
	defer c.httpToken.mu.Unlock()
	if held := c.httpToken.token; held != "" && held != not {
		return held, nil
	}
	token, err := call(ctx, "token source", c.token)
	c.httpToken.token = token
	return token, err
}

// exchange sends an HTTP request. An answer that isn't a success is returned as an error, an *Error or a *DialError. A
// credential that is refused is replaced once.
func (c *core) exchange(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	token, err := c.credential(ctx, "")
	for again := false; ; again = true {
		if err != nil {
			return nil, err
		}
		request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		for name, values := range c.header {
			request.Header[name] = values
		}
		for name, values := range header {
			request.Header[name] = values
		}
		if body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := c.http.Do(request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode < 300 {
			return response, nil
		}
		refused := c.refusedRequest(response)
		if response.StatusCode != http.StatusUnauthorized || again || c.isStatic || c.token == nil {
			return nil, refused
		}
		if token, err = c.credential(ctx, token); err != nil {
			return nil, err
		}
	}
}

// refusedRequest returns the error in an answer, and closes it.
func (c *core) refusedRequest(response *http.Response) error {
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	status := response.StatusCode
	refused := errorIn(body)
	if refused == nil {
		refused = &Error{Code: CodeNotAGateway, Message: fmt.Sprintf("HTTP %d: this isn't the answer of a gateway. Check the address.", status)}
		if status == http.StatusTooManyRequests || status >= 502 && status <= 504 {
			refused = &Error{Code: CodeUnreachable, Retryable: true, Message: fmt.Sprintf(
				"A proxy answers HTTP %d in place of the gateway. Check that the gateway runs.", status)}
		}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && refused.RetryAfterMS == 0 {
		refused.RetryAfterMS = int64(seconds) * 1000
	}
	refused.status = status
	return refused
}

// spawn runs f on a goroutine that Close waits for. It needs the lock, and a client that isn't closed.
func (c *core) spawn(f func()) {
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		f()
	}()
}

// finish gives a request its answer, unless it has one.
func (c *core) finish(one *request, result json.RawMessage, err error) {
	c.do(func() {
		if c.requests.take(one) {
			c.after = append(c.after, func() { one.done(result, err) })
		}
	})
}

// resultHTTP returns the result of any request but a turn.start.
func (c *core) resultHTTP(one *request) (json.RawMessage, error) {
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(one.frame))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		return nil, invalidFields(err)
	}
	if fields["as"] != nil {
		return nil, &Error{Code: CodeUnsupported, Message: "Acting for users needs a WebSocket, and this client uses HTTP."}
	}
	delete(fields, "type")
	delete(fields, "id")
	route, known := routes[one.kind]
	if !known {
		return nil, &Error{Code: CodeUnsupported, Message: one.kind + " needs a WebSocket, and this client uses HTTP."}
	}
	if one.kind == "turn.cancel" {
		return c.cancelHTTP(one, fields)
	}
	return c.routed(one, route.method, route.path, fields)
}

// cancelHTTP cancels one turn after the other.
func (c *core) cancelHTTP(one *request, fields map[string]any) (json.RawMessage, error) {
	turns, _ := fields["turns"].([]any)
	if turn, ok := fields["turn"].(string); ok {
		turns = []any{turn}
	}
	if len(turns) == 0 {
		return nil, &Error{Code: CodeUnsupported, Message: "Over HTTP, cancel turns by their ids."}
	}
	outcomes := map[string]Outcome{}
	for _, id := range turns {
		turn, _ := id.(string)
		c.mu.Lock()
		starting := c.turns[turnKey{id: turn}]
		c.mu.Unlock()
		if starting != nil {
			select { // a cancel that overtakes its start would find no turn
			case <-starting.begun:
			case <-c.ctx.Done():
				return nil, ErrClosed
			}
		}
		single := map[string]any{"turn": turn}
		if reason := fields["reason"]; reason != nil {
			single["reason"] = reason
		}
		result, err := c.routed(one, http.MethodPost, routes["turn.cancel"].path, single)
		var answer struct{ Turns map[string]Outcome }
		switch {
		case CodeOf(err) == "not_found":
			outcomes[turn] = OutcomeNotFound
		case err != nil:
			return nil, err
		default:
			_ = json.Unmarshal(result, &answer)
			outcomes[turn] = answer.Turns[turn]
		}
	}
	return json.Marshal(map[string]any{"turns": outcomes})
}

// routed sends fields to a route.
func (c *core) routed(one *request, method, path string, fields map[string]any) (json.RawMessage, error) {
	for name, value := range fields {
		if slot := "{" + name + "}"; strings.Contains(path, slot) {
			path = strings.ReplaceAll(path, slot, url.PathEscape(fmt.Sprint(value)))
			delete(fields, name)
		}
	}
	var body []byte
	if method == http.MethodPost || method == http.MethodPatch {
		body, _ = json.Marshal(fields)
	} else if len(fields) > 0 {
		query := url.Values{}
		for name, value := range fields {
			query.Set(name, fmt.Sprint(value))
		}
		path += "?" + query.Encode()
	}
	return c.insisted(one, func() (json.RawMessage, error) { return c.whole(method, path, body, nil) })
}

// insisted returns what ask returns. If the network fails or the instance drains, a request that is safe to repeat is asked again.
func (c *core) insisted(one *request, ask func() (json.RawMessage, error)) (json.RawMessage, error) {
	for attempt := 1; ; attempt++ {
		result, err := ask()
		last := !one.repeatable || attempt == httpAttempts
		switch code := CodeOf(err); {
		case err == nil || code != "" && (last || code != "shutting_down"):
			return result, err
		case c.ctx.Err() != nil:
			return nil, ErrClosed
		case last:
			lost := connectionLost()
			lost.cause = err
			return nil, lost
		}
		select {
		case <-time.After(rand.N(retryBase << attempt)):
		case <-c.ctx.Done():
		}
	}
}

// whole returns the body of an answer.
func (c *core) whole(method, path string, body []byte, header http.Header) (json.RawMessage, error) {
	ctx, done := context.WithTimeout(c.ctx, answerTimeout)
	defer done()
	response, err := c.exchange(ctx, method, path, body, header)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
}
