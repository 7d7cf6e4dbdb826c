package turnwire

import (
	"fmt"
	"net/url"
	"strings"
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

// shown returns the URL for errors: without a query, which may have a ticket, and without a password.
func (c *core) shown() string {
	parsed, err := url.Parse(c.url)
	if err != nil {
		return c.url
	}
	parsed.RawQuery = ""
	return parsed.Redacted()
}
