package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// claims name a user, and the time at which the token expires (Unix seconds).
type claims struct {
	User    string `json:"sub"`
	Expires int64  `json:"exp"`
}

var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// sign returns a JWT with these claims.
func sign(secret []byte, user claims) string {
	payload, err := json.Marshal(user)
	if err != nil {
		panic(err) // can't happen: a text and a number
	}
	body := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	return body + "." + mac(secret, body)
}

// verify returns the claims of a token that sign made. The header must be exactly tokenHeader, so a token can't choose
// another algorithm.
func verify(secret []byte, token string, now time.Time) (claims, bool) {
	var user claims
	body, ours := strings.CutPrefix(token, tokenHeader+".")
	encoded, signature, whole := strings.Cut(body, ".")
	if !ours || !whole || !hmac.Equal([]byte(signature), []byte(mac(secret, tokenHeader+"."+encoded))) {
		return user, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || json.Unmarshal(payload, &user) != nil {
		return user, false
	}
	return user, now.Unix() < user.Expires
}

func mac(secret []byte, body string) string {
	digest := hmac.New(sha256.New, secret)
	digest.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(digest.Sum(nil))
}
