// Command go-backend is a backend with users of its own. It holds one connection to a Turnwire gateway for all of them,
// streams answers to its page, stops them, and reads a user's history from the gateway.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	turnwire "turnwire/clients/go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx); err != nil {
		log.Fatal("go-backend: ", err)
	}
}

func run(ctx context.Context) error {
	key := os.Getenv("TURNWIRE_KEY")
	if key == "" {
		return fmt.Errorf("TURNWIRE_KEY is missing: create one with turnwire keys new --service backend")
	}
	passwords := map[string]string{}
	for _, pair := range strings.Split(os.Getenv("USERS"), ",") {
		if name, password, ok := strings.Cut(pair, ":"); ok && name != "" && password != "" {
			passwords[name] = password
		}
	}
	if len(passwords) == 0 {
		return fmt.Errorf("USERS is missing: USERS=ann:password,bob:password")
	}
	gateway, err := turnwire.Dial(ctx, cmp.Or(os.Getenv("TURNWIRE_URL"), "http://127.0.0.1:8000"),
		turnwire.WithToken(key), turnwire.WithLogger(slog.Default()))
	if err != nil {
		return err
	}
	defer gateway.Close()
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: (&backend{gateway: gateway, users: newUsers(passwords)}).handler(),
		// At the end, the contexts of all requests are done, so the turns that they started are cancelled.
		BaseContext: func(net.Listener) context.Context { return ctx },
		// No WriteTimeout: it would cut off a long answer.
		ReadHeaderTimeout: 10 * time.Second,
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(deadline)
}
