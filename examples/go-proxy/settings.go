package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const secretBytesMin = 32

// settings are read from the environment. README.md describes the variables.
type settings struct {
	listen         string
	gateway        *url.URL
	serviceKey     string
	identitySecret []byte
	sessionSecret  []byte
	passwords      map[string]string
}

func readSettings(getenv func(string) string) (settings, error) {
	env := func(name, otherwise string) string {
		if value := getenv(name); value != "" {
			return value
		}
		return otherwise
	}
	gateway, err := gatewayURL(env("TURNWIRE_URL", "http://127.0.0.1:8000"))
	if err != nil {
		return settings{}, err
	}
	read := settings{
		listen:         env("LISTEN", "127.0.0.1:8080"),
		gateway:        gateway,
		serviceKey:     getenv("TURNWIRE_KEY"),
		identitySecret: []byte(getenv("TURNWIRE_IDENTITY_SECRET")),
		sessionSecret:  []byte(getenv("SESSION_SECRET")),
		passwords:      map[string]string{},
	}
	if read.serviceKey == "" {
		return settings{}, errors.New("TURNWIRE_KEY is missing: create one with turnwire keys new --service proxy")
	}
	if len(read.identitySecret) < secretBytesMin {
		return settings{}, fmt.Errorf("TURNWIRE_IDENTITY_SECRET must have %d bytes or more, and be the same as the gateway's", secretBytesMin)
	}
	if len(read.sessionSecret) == 0 {
		// A secret for this process only: after a restart, all users have to sign in again.
		read.sessionSecret = make([]byte, secretBytesMin)
		if _, err := rand.Read(read.sessionSecret); err != nil {
			return settings{}, err
		}
	}
	if string(read.sessionSecret) == string(read.identitySecret) {
		return settings{}, errors.New("SESSION_SECRET must differ from TURNWIRE_IDENTITY_SECRET, or a session cookie would be a valid identity")
	}
	for _, pair := range strings.Split(getenv("USERS"), ",") {
		if name, password, ok := strings.Cut(pair, ":"); ok && name != "" && password != "" {
			read.passwords[name] = password
		}
	}
	if len(read.passwords) == 0 {
		return settings{}, errors.New("USERS is missing: USERS=ann:password,bob:password")
	}
	return read, nil
}

// gatewayURL parses the gateway's URL, which must be absolute, with http or https.
func gatewayURL(raw string) (*url.URL, error) {
	gateway, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("TURNWIRE_URL: %w", err)
	}
	if (gateway.Scheme != "http" && gateway.Scheme != "https") || gateway.Host == "" {
		return nil, fmt.Errorf("TURNWIRE_URL: %q is not an http:// or https:// URL", raw)
	}
	return gateway, nil
}
