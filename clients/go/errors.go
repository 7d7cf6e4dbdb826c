package turnwire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Codes of errors that this package makes itself. The gateway's own codes are those of the protocol, such as "not_found".
const (
	CodeConnectionLost   = "connection_lost"       // the connection was lost before the answer
	CodeConnectionClosed = "connection_closed"     // the client was closed, by the program or for good by the gateway
	CodeLawViolation     = "law_violation"         // the gateway broke a law of the protocol
	CodeWithdrawn        = "withdrawn"             // stopped before it was sent
	CodeInvalidURL       = "invalid_url"           // the URL isn't one of a gateway
	CodeNotAGateway      = "not_a_gateway"         // something else answers at the URL
	CodeProtocol         = "protocol_mismatch"     // the gateway speaks another version of the protocol
	CodeUntrusted        = "untrusted_certificate" // the TLS certificate isn't trusted
	CodeUnreachable      = "unreachable"           // nothing answers
	CodeCallback         = "callback_failed"       // a function of the program panicked
	CodeUnsupported      = "unsupported"           // the transport can't do this
)

// Error is an error of the gateway, or of this package. Code says which one.
type Error struct {
	// Code is one of the protocol's codes or of the constants of this package.
	Code string `json:"code"`
	// Message is a sentence for a person.
	Message string `json:"message"`
	// Retryable says whether the same request can succeed later.
	Retryable bool `json:"retryable"`
	// RetryAfterMS is the time in milliseconds after which a retry is accepted; 0 if it isn't known.
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
	// Path is the field of the request that is wrong, if the error is about a field.
	Path string `json:"path,omitempty"`
	// StoredMessage is the id of the message to read instead, with the code "gone".
	StoredMessage string `json:"stored_message,omitempty"`

	cause  error
	status int // of the HTTP answer that it was read from; otherwise 0
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Unwrap returns the error of the network, of TLS or of the program that caused this one, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error with the same code, so that errors.Is(err, &Error{Code: "not_found"}) works.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// RetryAfter returns the time after which a retry is accepted; 0 if it isn't known.
func (e *Error) RetryAfter() time.Duration { return time.Duration(e.RetryAfterMS) * time.Millisecond }

// ErrClosed is the error of everything that needs a client after the program has closed it.
var ErrClosed error = &Error{Code: CodeConnectionClosed, Message: "The client was closed. Dial again."}

// DialError says why no connection could be opened. Unwrap leads to the *Error, and through it to the error of the
// network or of TLS.
type DialError struct {
	// URL is the address without its query, which may have a ticket.
	URL string
	// Status is the HTTP status of the answer; 0 if there was none.
	Status int
	// Err says what happened.
	Err *Error

	// final: a retry would be refused again.
	final bool
	// invited: the gateway itself asks to come again.
	invited bool
}

func (e *DialError) Error() string { return e.URL + ": " + e.Err.Error() }

// Unwrap returns the *Error.
func (e *DialError) Unwrap() error { return e.Err }

// CloseError says that the gateway closed the connection for good, with a close code 44xx.
type CloseError struct {
	// Code is the WebSocket close code, such as 4401.
	Code int
	// Err says what it means.
	Err *Error
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d: %v", e.Code, e.Err) }

// Unwrap returns the *Error.
func (e *CloseError) Unwrap() error { return e.Err }

// TurnError is the error of a turn that failed.
type TurnError struct {
	// Err is the cause: an *Error of the gateway or of this package, a *LawViolation, a *CloseError or a *DialError.
	Err error
	// Message is the answer so far.
	Message Message
}

func (e *TurnError) Error() string { return "turn " + e.Message.Turn + " failed: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TurnError) Unwrap() error { return e.Err }

// LawViolation says that the gateway broke law 1 or 2 of the protocol: an event is missing, comes twice, or follows the
// ending of its turn.
type LawViolation struct {
	// Law is 1 or 2.
	Law int
	// Turn is the turn's id.
	Turn string
	// Detail says what came, and what should have come.
	Detail string
}

func (e *LawViolation) Error() string {
	return fmt.Sprintf("%s: turn %s: %s (law %d). Report it.", CodeLawViolation, e.Turn, e.Detail, e.Law)
}

// PanicError says that a function of the program, such as a TokenSource, panicked.
type PanicError struct {
	// Callback names the function.
	Callback string
	// Value is what it panicked with.
	Value any
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("%s: the %s panicked: %v. Mend it.", CodeCallback, e.Callback, e.Value)
}

// CodeOf returns the code of an error of this package, or "" for any other error.
func CodeOf(err error) string {
	var (
		violation *LawViolation
		panicked  *PanicError
		coded     *Error
	)
	switch {
	case errors.As(err, &violation):
		return CodeLawViolation
	case errors.As(err, &panicked):
		return CodeCallback
	case errors.As(err, &coded):
		return coded.Code
	}
	return ""
}

func isRetryable(err error) bool {
	var coded *Error
	return errors.As(err, &coded) && coded.Retryable
}

func retryAfter(err error) time.Duration {
	var coded *Error
	if errors.As(err, &coded) {
		return coded.RetryAfter()
	}
	return 0
}

func connectionLost() *Error {
	return &Error{
		Code: CodeConnectionLost, Message: "The connection was lost before the answer came. Try again.", Retryable: true,
	}
}

// errorIn returns the error in the body of an HTTP answer, or nil.
func errorIn(body []byte) *Error {
	var answer struct {
		Error *Error `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil || answer.Error.Code == "" {
		return nil
	}
	return answer.Error
}

// closeReasons explain the close codes of the protocol.
var closeReasons = map[int]Error{
	4400: {Code: "invalid_frame", Message: "The gateway refused this client's frames. Update the client."},
	4401: {Code: "unauthenticated", Message: "The credential is missing, has expired or was revoked. Renew it, then dial again."},
	4403: {Code: "forbidden", Message: "An operator closed the connection. Ask them, then dial again."},
	4408: {Code: "unauthenticated", Message: "No credential was sent in time. Dial again."},
	4409: {Code: "rate_limited", Message: "The user has too many connections. Close one, then dial again."},
}
