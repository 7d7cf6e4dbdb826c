// Command go-proxy is a reverse proxy in front of a Turnwire gateway. It signs users in, tells the
// gateway which user sent each request, and serves the page, the API, event streams and WebSockets on one address.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute

	// shutdownTimeout is the time for plain requests to finish after SIGTERM. The proxy doesn't wait for sockets: they
	// never end by themselves, and a Turnwire client resumes its turns.
	shutdownTimeout = 10 * time.Second
	closeTimeout    = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// After the first signal, a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		log.Fatal("go-proxy: ", err)
	}
}

// run serves until ctx ends, and then closes the open connections. With the argument check, it only tries the gateway.
func run(ctx context.Context) error {
	settings, err := readSettings(os.Getenv)
	if err != nil {
		return err
	}
	if len(os.Args) > 1 && os.Args[1] == "check" {
		return check(ctx, settings)
	}
	listener, err := net.Listen("tcp", settings.listen)
	if err != nil {
		return err
	}

	// http.Server neither tracks nor closes upgraded connections. All requests inherit this context, so
	// canceling it ends all of them, including upgraded connections.
	requests, endRequests := context.WithCancel(context.Background())
	defer endRequests()
	var open sync.WaitGroup

	handler := newHandler(settings)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			open.Add(1)
			defer open.Done()
			handler.ServeHTTP(w, r)
		}),
		BaseContext: func(net.Listener) context.Context { return requests },
		// No ReadTimeout and no WriteTimeout: either would cut off a long answer.
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
	}

	fmt.Printf("listening on http://%s, forwarding to %s\n", listener.Addr(), settings.gateway)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	deadline, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(deadline)
	endRequests()
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	waitFor(&open, closeTimeout)
	return err
}

// waitFor waits for group, but no longer than timeout: a client that has stopped reading could keep its connection open
// forever.
func waitFor(group *sync.WaitGroup, timeout time.Duration) {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}
