// Command go-proxy is a reverse proxy in front of a Turnwire gateway: pages, API, event streams and
// WebSockets, on one address. It shows what a Go service has to do, and leave alone, so that a chat
// stream gets through it unharmed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout       = 5 * time.Second
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
	gateway, err := gatewayURL(env("TURNWIRE_URL", "http://127.0.0.1:8000"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", env("LISTEN", "127.0.0.1:8080"))
	if err != nil {
		return err
	}

	// An upgraded connection is the proxy's own; the server neither counts nor closes it. Requests
	// inherit this context: ending it ends them, upgraded or not.
	requests, endRequests := context.WithCancel(context.Background())
	defer endRequests()
	var open sync.WaitGroup

	proxy := newProxy(gateway)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			open.Add(1)
			defer open.Done()
			proxy.ServeHTTP(w, r)
		}),
		BaseContext: func(net.Listener) context.Context { return requests },
		// No ReadTimeout and no WriteTimeout: both would cut a long answer in the middle.
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
	}

	fmt.Printf("listening on http://%s, forwarding to %s\n", listener.Addr(), gateway)
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

// newProxy forwards every request to the gateway. httputil.ReverseProxy carries WebSocket upgrades by itself.
func newProxy(gateway *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(gateway)
			// A browser sends the Origin of the page that it loaded from here, and the gateway lets a
			// socket in only if Origin and Host agree. So Host has to stay what the browser asked for.
			r.Out.Host = r.In.Host
			// Whatever X-Forwarded-* the client made up is gone by now; these say what we saw.
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			// The gateway's bytes go through as they are, instead of being unpacked here.
			DisableCompression:  true,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			// No ResponseHeaderTimeout: a model may think for minutes before its first token.
		},
		// Send each write on at once: a buffered token is a late token.
		FlushInterval: -1,
	}
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

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
