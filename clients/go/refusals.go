package turnwire

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

func closeError(code int, cause error) error {
	reason, known := closeReasons[code]
	if !known {
		reason = Error{Code: CodeConnectionClosed, Message: "The gateway closed the connection for good. Read its log."}
	}
	reason.cause = cause
	return &CloseError{Code: code, Err: &reason}
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

func isUntrusted(err error) bool {
	var invalid *tls.CertificateVerificationError
	return errors.As(err, &invalid)
}

func isNotTLS(err error) bool {
	var record tls.RecordHeaderError
	// net/http replaces the error of TLS by this text, and has no value for it.
	return errors.As(err, &record) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// rootCause returns the innermost error as text.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return strings.TrimSuffix(err.Error(), ".")
		}
		err = inner
	}
}
