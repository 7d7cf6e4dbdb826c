package turnwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
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

// shown returns the URL for errors: without a query, which may have a ticket, and without a password.
func (c *core) shown() string {
	parsed, err := url.Parse(c.url)
	if err != nil {
		return c.url
	}
	parsed.RawQuery = ""
	return parsed.Redacted()
}
