package turnwire

import (
	"context"
	"strings"
	"sync"
	"unicode"
)

// renew sends a new credential on the open connection.
func (c *core) renew(expiresAt string) {
	source := c.token
	if source == nil {
		source = c.ticket
	}
	c.mu.Lock()
	// Each expiry causes one attempt: if a renewal left it unchanged, another one probably would too.
	needless := source == nil || c.isStatic || expiresAt == c.renewed
	c.renewed = expiresAt
	c.mu.Unlock()
	if needless {
		return
	}
	c.running.Add(1) // by the reader, which Close waits for
	go func() {
		defer c.running.Done()
		ctx, done := context.WithTimeout(c.ctx, readyTimeout)
		defer done()
		token, err := call(ctx, "token source", source)
		if err == nil && token != "" {
			_, err = c.request(ctx, "", "auth", map[string]any{"token": token})
		}
		if err != nil {
			c.logger.Warn("turnwire: the credential couldn't be renewed", "error", err)
		}
	}()
}

// call calls a function of the program for a credential, which must fit in a header. A panic is returned as a *PanicError.
func call(ctx context.Context, name string, source TokenSource) (string, error) {
	type result struct {
		token string
		err   error
	}
	got := make(chan result, 1)
	go func() {
		defer func() {
			if value := recover(); value != nil {
				got <- result{err: &PanicError{Callback: name, Value: value}}
			}
		}()
		token, err := source(ctx)
		if err == nil && strings.ContainsFunc(token, unicode.IsControl) {
			token, err = "", &Error{Code: "unauthenticated", Message: "The credential has a line break or another control character. Trim it."}
		}
		got <- result{token, err}
	}()
	select {
	case one := <-got:
		return one.token, one.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (c *core) notify(notice Notice) {
	if c.onNotice != nil {
		c.notices.add(c, "notice handler", func() { c.onNotice(notice) })
	}
}

// noticesMax bounds the calls that wait for a slow handler.
const noticesMax = 10_000

// notices calls the program's handlers one after the other, on a goroutine that lives while there is something to call.
type notices struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

func (n *notices) add(c *core, name string, handle func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= noticesMax {
		return
	}
	n.waiting = append(n.waiting, func() {
		defer func() {
			if value := recover(); value != nil {
				c.logger.Error("turnwire: a handler failed", "error", &PanicError{Callback: name, Value: value})
			}
		}()
		handle()
	})
	if !n.running {
		n.running = true
		go n.run()
	}
}

func (n *notices) run() {
	for {
		n.mu.Lock()
		if len(n.waiting) == 0 {
			n.running = false
			n.mu.Unlock()
			return
		}
		next := n.waiting[0]
		n.waiting = n.waiting[1:]
		n.mu.Unlock()
		next()
	}
}
