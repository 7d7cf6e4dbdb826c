package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"sync"
)

const sessionCookie = "session"

// users knows who may sign in, and who has. Replace it with your own: the rest needs only the name of a request's user.
type users struct {
	passwords map[string]string
	mu        sync.Mutex
	sessions  map[string]string // the user of each session
}

func newUsers(passwords map[string]string) *users {
	return &users{passwords: passwords, sessions: map[string]string{}}
}

// of returns the user of a request; "" if nobody is signed in.
func (u *users) of(r *http.Request) string {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sessions[cookie.Value]
}

func (u *users) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	name := r.PostFormValue("name")
	password, known := u.passwords[name]
	given, wanted := sha256.Sum256([]byte(r.PostFormValue("password"))), sha256.Sum256([]byte(password))
	if same := subtle.ConstantTimeCompare(given[:], wanted[:]) == 1; !known || !same {
		http.Error(w, "The name or the password is wrong. Try again.", http.StatusForbidden)
		return
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // doesn't fail on the platforms of Go
	session := hex.EncodeToString(random)
	u.mu.Lock()
	u.sessions[session] = name
	u.mu.Unlock()
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: session, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (u *users) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		u.mu.Lock()
		delete(u.sessions, cookie.Value)
		u.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
