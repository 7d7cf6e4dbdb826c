package turnwire

import (
	"context"
	"log/slog"
	"net/http"
)

// Codec is the encoding of the frames.
type Codec string

// The codecs.
const (
	JSON        Codec = "json"
	MessagePack Codec = "msgpack"
)

// Transport is how frames travel.
type Transport string

// The transports. Auto uses a WebSocket, and HTTP with server-sent events where a proxy lets no WebSocket through.
const (
	Auto   Transport = "auto"
	Socket Transport = "socket"
	HTTP   Transport = "http"
)

// TokenSource returns a credential: a token or a key. It is called for each connection, and again when the gateway says
// that the credential expires. An *Error that isn't retryable closes the client; after any other error, it is called again.
type TokenSource func(ctx context.Context) (string, error)

// Option sets something for Dial or New.
type Option func(*settings)

type settings struct {
	token     TokenSource
	isStatic  bool
	ticket    TokenSource
	codec     Codec
	transport Transport
	header    http.Header
	http      *http.Client
	logger    *slog.Logger
	onNotice  func(Notice)
	onState   func(State)
}

// WithToken sets a credential that never changes: an API key, or a token.
func WithToken(token string) Option {
	return func(s *settings) {
		s.token, s.isStatic = func(context.Context) (string, error) { return token, nil }, true
	}
}

// WithTokenSource sets a function that returns the credential.
func WithTokenSource(source TokenSource) Option {
	return func(s *settings) { s.token, s.isStatic = source, false }
}

// WithTicketSource sets a function that returns a one-time ticket for each socket, from POST /v1/tickets.
func WithTicketSource(source TokenSource) Option { return func(s *settings) { s.ticket = source } }

// WithCodec sets the encoding of the frames. The default is JSON.
func WithCodec(codec Codec) Option { return func(s *settings) { s.codec = codec } }

// WithTransport sets how frames travel. The default is Auto.
func WithTransport(transport Transport) Option { return func(s *settings) { s.transport = transport } }

// WithHeader adds headers to the opening of each socket and to each HTTP request.
func WithHeader(header http.Header) Option { return func(s *settings) { s.header = header.Clone() } }

// WithHTTPClient sets the HTTP client, and with it proxies and the certificates that are trusted. It must have no Timeout,
// which would end streams.
func WithHTTPClient(client *http.Client) Option { return func(s *settings) { s.http = client } }

// WithLogger sets where the client writes what it can't return as an error. By default it writes nothing.
func WithLogger(logger *slog.Logger) Option { return func(s *settings) { s.logger = logger } }

// WithNoticeHandler sets a function for frames that belong to no turn of this client. Calls come one after the other, on a
// goroutine of their own.
func WithNoticeHandler(handle func(Notice)) Option { return func(s *settings) { s.onNotice = handle } }

// WithStateHandler sets a function for changes of the connection. Calls come one after the other, on the goroutine of the
// notices.
func WithStateHandler(handle func(State)) Option { return func(s *settings) { s.onState = handle } }

// quiet is a slog.Handler that discards everything.
type quiet struct{}

func (quiet) Enabled(context.Context, slog.Level) bool  { return false }
func (quiet) Handle(context.Context, slog.Record) error { return nil }
func (q quiet) WithAttrs([]slog.Attr) slog.Handler      { return q }
func (q quiet) WithGroup(string) slog.Handler           { return q }
