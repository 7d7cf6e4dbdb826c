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

// newHandler serves the sign-in, and forwards what the gateway has for users. The rest of the gateway, such as
// its health and metrics, is not for them.
func newHandler(s settings) http.Handler {
	door := login{secret: s.sessionSecret, passwords: s.passwords}
	proxy := newProxy(s)
	forward := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, known := door.user(r)
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
	mux.HandleFunc("GET /login", door.show)
	mux.HandleFunc("POST /login", door.enter)
	mux.HandleFunc("POST /logout", door.leave)
	for _, path := range []string{
		"/{$}", "/static/", "/ws", "/v1", "/v1/", "/docs", "/openapi.json", "/asyncapi.json",
	} {
		mux.Handle(path, forward)
	}
	return mux
}

// newProxy forwards requests of known users to the gateway. httputil.ReverseProxy carries WebSocket upgrades by itself.
func newProxy(s settings) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(s.gateway)
			// A browser sends the Origin of the page that it loaded from here, and the gateway lets a
			// socket in only if Origin and Host agree. So Host has to stay what the browser asked for.
			r.Out.Host = r.In.Host
			// Whatever X-Forwarded-* the client made up is gone by now; these say what we saw.
			r.SetXForwarded()
			// What says who this is comes from us alone; a client's own words for it are dropped. The
			// user's cookie is ours, and none of the gateway's business.
			user := r.In.Context().Value(userKey{}).(claims)
			r.Out.Header.Del("Cookie")
			r.Out.Header.Set("Authorization", "Bearer "+s.serviceKey)
			r.Out.Header.Set(identityHeader, sign(s.identitySecret, user))
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
		// While the gateway restarts, clients hear that coming back helps. The log has no query: tickets are in it.
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Printf("%s %s: %v", r.Method, r.URL.Path, err)
			refuse(w, http.StatusServiceUnavailable, "shutting_down", "The gateway is away. Come back in a second.", time.Second)
		},
	}
}

// refuse answers as the gateway does, so that its clients understand.
func refuse(w http.ResponseWriter, status int, code, message string, retryAfter time.Duration) {
	said := map[string]any{"code": code, "message": message, "retryable": retryAfter > 0}
	if retryAfter > 0 {
		said["retry_after_ms"] = retryAfter.Milliseconds()
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": said})
}
