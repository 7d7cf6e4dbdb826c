package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	turnwire "turnwire/clients/go"
)

const checkTimeout = 10 * time.Second

// check opens a socket as the proxy does for a user, and returns what is wrong with the key, the secret or the gateway.
func check(ctx context.Context, s settings) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	identity := sign(s.identitySecret, claims{User: "go-proxy check", Expires: time.Now().Add(time.Minute).Unix()})
	gateway, err := turnwire.Dial(ctx, s.gateway.String(), turnwire.WithToken(s.serviceKey),
		turnwire.WithTransport(turnwire.Socket), turnwire.WithHeader(http.Header{identityHeader: {identity}}))
	if err != nil {
		return explained(err)
	}
	defer gateway.Close()
	took, err := gateway.Ping(ctx)
	if err != nil {
		return explained(err)
	}
	fmt.Printf("%s accepts the key and the secret, and answers in %v\n", s.gateway, took.Round(time.Microsecond))
	return nil
}

// explained adds what the proxy's operator can do.
func explained(err error) error {
	var refused *turnwire.Error
	if errors.As(err, &refused) && (refused.Code == "unauthenticated" || refused.Code == "forbidden") {
		return fmt.Errorf("%w Compare TURNWIRE_KEY with the gateway's file of keys, and TURNWIRE_IDENTITY_SECRET with the gateway's", err)
	}
	return err
}
