package turnwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const probeTimeout = 5 * time.Second

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
