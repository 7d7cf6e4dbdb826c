package main

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"time"
)

const (
	identityHeader = "X-Turnwire-Identity"
	dialTimeout    = 5 * time.Second
)

type userKey struct{}

// newHandler serves the sign-in, and forwards the gateway's paths that users need. Other paths of the gateway, such as
// health and metrics, are not forwarded. Neither is /sw.js: the page that it keeps would appear instead of the sign-in.
func newHandler(s settings) http.Handler {
	signIn := login{secret: s.sessionSecret, passwords: s.passwords}
	proxy := newProxy(s)
	forward := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, known := signIn.user(r)
		switch {
		case known:
			proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
		case r.URL.Path == "/":
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			refuse(w, http.StatusUnauthorized, "unauthenticated", "Sign in first, at /login.", 0)
		}
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", signIn.show)
	mux.HandleFunc("POST /login", signIn.enter)
	mux.HandleFunc("POST /logout", signIn.leave)
	for _, path := range []string{
		"/{$}", "/static/", "/app.webmanifest", "/ws", "/v1", "/v1/", "/docs", "/openapi.json", "/asyncapi.json",
	} {
		mux.Handle(path, forward)
	}
	for _, path := range []string{"/v1/admin", "/v1/admin/", "/v1/revocations"} {
		mux.Handle(path, http.NotFoundHandler()) // for operators, who use the gateway itself
	}
	return mux
}

// newProxy forwards requests of signed-in users to the gateway. httputil.ReverseProxy supports WebSocket upgrades.
func newProxy(s settings) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(s.gateway)
			// A browser sends the Origin of the page, which it loaded from this proxy. The gateway accepts a socket only if
			// Origin and Host match, so the proxy keeps the Host of the request.
			r.Out.Host = r.In.Host
			// ReverseProxy has removed the client's own X-Forwarded-* headers. Set new ones from the actual connection.
			r.SetXForwarded()
			// Only the proxy names the user: the client's own credential and identity are replaced. The session cookie is
			// for the proxy only and is removed.
			user := r.In.Context().Value(userKey{}).(claims)
			r.Out.Header.Del("Cookie")
			r.Out.Header.Set("Authorization", "Bearer "+s.serviceKey)
			r.Out.Header.Set(identityHeader, sign(s.identitySecret, user))
		},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			// Pass responses through without decompressing them.
			DisableCompression:  true,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			// No ResponseHeaderTimeout: a model may think for minutes before its first token.
		},
		// Forward each write at once, because buffering delays tokens.
		FlushInterval: -1,
		// While the gateway restarts, tell clients to retry. Queries aren't logged, because they contain tickets.
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Printf("%s %s: %v", r.Method, r.URL.Path, err)
			refuse(w, http.StatusServiceUnavailable, "shutting_down", "The gateway can't be reached. Try again in a second.", time.Second)
		},
	}
}

// refuse sends an error in the gateway's format, so that its clients understand it.
func refuse(w http.ResponseWriter, status int, code, message string, retryAfter time.Duration) {
	body := map[string]any{"code": code, "message": message, "retryable": retryAfter > 0}
	if retryAfter > 0 {
		body["retry_after_ms"] = retryAfter.Milliseconds()
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": body})
}
