package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const secretBytesMin = 32

// settings are what the environment says; README.md has the table.
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
		return settings{}, errors.New("TURNWIRE_KEY is missing: make one with turnwire keys new --service proxy")
	}
	if len(read.identitySecret) < secretBytesMin {
		return settings{}, fmt.Errorf("TURNWIRE_IDENTITY_SECRET needs %d bytes or more, the same as the gateway's", secretBytesMin)
	}
	if len(read.sessionSecret) == 0 {
		// Good for one process: when it ends, everybody signs in again.
		read.sessionSecret = make([]byte, secretBytesMin)
		if _, err := rand.Read(read.sessionSecret); err != nil {
			return settings{}, err
		}
	}
	if string(read.sessionSecret) == string(read.identitySecret) {
		return settings{}, errors.New("SESSION_SECRET is TURNWIRE_IDENTITY_SECRET: a cookie would be an identity")
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

// gatewayURL reads the gateway's address, which has to be an absolute http or https URL.
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
