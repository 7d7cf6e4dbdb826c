package turnwire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	answerTimeout = 60 * time.Second
	bodyBytesMax  = 64 << 20
)

// credential returns the credential of HTTP requests. If the held one is `refused`, the source is asked again.
func (c *core) credential(ctx context.Context, refused string) (string, error) {
	if c.token == nil {
		return "", nil
	}
	c.httpToken.mu.Lock()
	defer c.httpToken.mu.Unlock()
	if held := c.httpToken.token; held != "" && held != refused {
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

// fetchBody sends a request and returns the body of its answer.
func (c *core) fetchBody(method, path string, body []byte, header http.Header) (json.RawMessage, error) {
	ctx, done := context.WithTimeout(c.ctx, answerTimeout)
	defer done()
	response, err := c.exchange(ctx, method, path, body, header)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
}
