package turnwire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const httpAttempts = 5

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
	return c.sendTo(one, route.method, route.path, fields)
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
		result, err := c.sendTo(one, http.MethodPost, routes["turn.cancel"].path, single)
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

// sendTo sends the fields of a request to an address.
func (c *core) sendTo(one *request, method, path string, fields map[string]any) (json.RawMessage, error) {
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
	return c.withRetries(one, func() (json.RawMessage, error) { return c.fetchBody(method, path, body, nil) })
}

// withRetries returns what ask returns. If the network fails or the instance drains, it calls ask again for a request that is safe
// to repeat.
func (c *core) withRetries(one *request, ask func() (json.RawMessage, error)) (json.RawMessage, error) {
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
