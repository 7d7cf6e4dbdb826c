package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"
)

const (
	sessionCookie   = "session"
	sessionLifetime = 12 * time.Hour
	loginBytesMax   = 4096
)

const loginPage = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title>
<form method="post" action="/login"><label>Name <input name="name" autocomplete="username" required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Sign in</button></form></html>`

// login is a minimal sign-in. Replace it with your own: the rest of the proxy needs only the user's name and the
// time at which the session ends.
type login struct {
	secret    []byte
	passwords map[string]string
}

// user returns the user of the request, from the session cookie, or from the same token in an Authorization: Bearer header.
func (l login) user(r *http.Request) (claims, bool) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return verify(l.secret, token, time.Now())
	}
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return claims{}, false
	}
	return verify(l.secret, cookie.Value, time.Now())
}

func (l login) show(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'")
	_, _ = w.Write([]byte(loginPage))
}

func (l login) enter(w http.ResponseWriter, r *http.Request) {
	// Refuse forms of other sites, so that no other site can sign a client in as a user of its choice.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "Sign in on this site.", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, loginBytesMax)
	name := r.PostFormValue("name")
	password, known := l.passwords[name]
	given, wanted := sha256.Sum256([]byte(r.PostFormValue("password"))), sha256.Sum256([]byte(password))
	if same := subtle.ConstantTimeCompare(given[:], wanted[:]) == 1; !known || !same {
		http.Error(w, "The name or the password is wrong. Try again.", http.StatusForbidden)
		return
	}
	session := claims{User: name, Expires: time.Now().Add(sessionLifetime).Unix()}
	http.SetCookie(w, &http.Cookie{
		Name:     sessionCookie,
		Value:    sign(l.secret, session),
		Path:     "/",
		MaxAge:   int(sessionLifetime.Seconds()),
		HttpOnly: true,
		Secure:   r.TLS != nil,
		SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (l login) leave(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
