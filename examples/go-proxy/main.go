// Command go-proxy is a reverse proxy in front of a Turnwire gateway: it signs its users in, tells the
// gateway who each of them is, and carries pages, API, event streams and WebSockets on one address.
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

	// After SIGTERM, plain requests have this long to finish. Sockets are not waited for: they would
	// never end by themselves, and a Turnwire client resumes its turns where it left them.
	shutdownTimeout = 10 * time.Second
	closeTimeout    = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// Once asked to leave, a second signal ends the process as it would any other.
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		log.Fatal("go-proxy: ", err)
	}
}

// run serves until ctx ends, then lets go of what is still open.
func run(ctx context.Context) error {
	settings, err := readSettings(os.Getenv)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", settings.listen)
	if err != nil {
		return err
	}

	// An upgraded connection is the proxy's own; the server neither counts nor closes it. Requests
	// inherit this context: ending it ends them, upgraded or not.
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
		// No ReadTimeout and no WriteTimeout: both would cut a long answer in the middle.
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

// waitFor waits until group is done, but no longer than timeout: a client that has stopped reading
// would hold its connection, and us, for ever.
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
