package turnwire

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
	"unicode/utf8"
)

func (c *core) start(ctx context.Context, key turnKey, fields map[string]any) *Turn {
	var t *Turn
	c.do(func() {
		if t = c.turns[key]; t != nil {
			return // a repeated start is the same turn (law 6)
		}
		t = newTurn(c, key)
		if ctx.Err() != nil {
			t.settle(nil)
			return
		}
		c.add(t)
		c.sendFor(t, key.user, "turn.start", fields, func(result json.RawMessage, err error) {
			if err != nil {
				c.fail(t, err)
				return
			}
			var accepted struct {
				Conversation string `json:"conversation"`
				Status       Status `json:"status"`
			}
			_ = json.Unmarshal(result, &accepted)
			t.accepted(accepted.Conversation, accepted.Status)
		})
		t.watch(ctx, func(cause error) { c.stopTurn(t, cause) })
	})
	return t
}

// stopTurn cancels a turn because its context is done.
func (c *core) stopTurn(t *Turn, cause error) {
	reason := ""
	if !errors.Is(cause, context.Canceled) {
		reason = cause.Error()
	}
	c.do(func() { c.cancel(t, reason, func(Outcome, error) {}) })
}

func (c *core) cancelTurn(ctx context.Context, t *Turn, reason string) (Outcome, error) {
	type answered struct {
		outcome Outcome
		err     error
	}
	answer := make(chan answered, 1)
	c.do(func() { c.cancel(t, reason, func(outcome Outcome, err error) { answer <- answered{outcome, err} }) })
	select {
	case got := <-answer:
		return got.outcome, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// cancel needs the lock.
func (c *core) cancel(t *Turn, reason string, done func(Outcome, error)) {
	if t.hasEnded() {
		c.after = append(c.after, func() { done(OutcomeAlreadyEnded, nil) })
		return
	}
	if t.starting != nil && !t.starting.sent {
		c.requests.remove(t.starting) // the gateway can't have accepted it
		c.end(t, nil)
		c.after = append(c.after, func() { done(OutcomeCancelled, nil) })
		return
	}
	fields := map[string]any{"turns": []string{t.key.id}}
	if reason != "" {
		fields["reason"] = shortened(reason, reasonMax)
	}
	c.send(t.key.user, "turn.cancel", fields, func(result json.RawMessage, err error) {
		var answer struct {
			Turns map[string]Outcome `json:"turns"`
		}
		if err == nil {
			err = json.Unmarshal(result, &answer)
		}
		if err != nil {
			done("", err)
			return
		}
		outcome := answer.Turns[t.key.id]
		c.do(func() {
			// A start that has no answer yet gets its own. Any other turn that isn't found no longer exists.
			if outcome == OutcomeNotFound && t.starting == nil {
				c.end(t, &Error{Code: "not_found", Message: "The gateway no longer has this turn. Start it again."})
			}
		})
		done(outcome, nil)
	})
}

// shortened returns the first characters of a text.
func shortened(text string, chars int) string {
	for at := range text {
		if chars--; chars < 0 {
			return text[:at]
		}
	}
	if !utf8.ValidString(text) {
		return string([]rune(text))
	}
	return text
}

func (c *core) follow(ctx context.Context, key turnKey, position Position) *Turn {
	var t *Turn
	c.do(func() {
		if t = c.turns[key]; t != nil {
			return
		}
		t = newTurn(c, key)
		t.position, t.partial = position, position.Seq > 0
		if c.closed != nil {
			t.settle(c.closed)
			return
		}
		c.add(t)
		if c.overHTTP {
			c.streamHTTP(t, nil)
		}
		c.attach(t)
		t.watch(ctx, func(cause error) {
			c.do(func() {
				if c.end(t, cause) {
					c.send(key.user, "turn.detach", map[string]any{"turn": key.id}, func(json.RawMessage, error) {})
				}
			})
		})
	})
	return t
}

// add follows a turn. It needs the lock.
func (c *core) add(t *Turn) {
	c.turns[t.key] = t
	delete(c.past, t.key)
}

// fail ends a turn on this side only.
func (c *core) fail(t *Turn, err error) { c.do(func() { c.end(t, err) }) }

// end ends a turn on this side only, as cancelled if err is nil. It returns whether it hadn't ended. It needs the lock.
func (c *core) end(t *Turn, err error) bool {
	c.forget(t, false)
	return t.settle(err)
}

// forget stops following a turn. It needs the lock.
func (c *core) forget(t *Turn, ended bool) {
	if c.turns[t.key] != t {
		return
	}
	delete(c.turns, t.key)
	if _, known := c.past[t.key]; !known {
		c.pastOrder = append(c.pastOrder, t.key)
	}
	c.past[t.key] = ended
	if len(c.pastOrder) > outcomesMax {
		delete(c.past, c.pastOrder[0])
		c.pastOrder = slices.Delete(c.pastOrder, 0, 1)
	}
}

// attach attaches to turns from their positions, if there is a socket and they aren't attached. It needs the lock.
func (c *core) attach(turns ...*Turn) {
	if c.socket == nil {
		return // everything is attached when there is one
	}
	byUser := map[string][]*Turn{}
	for _, t := range turns {
		if t.attachment == detached && !t.hasEnded() {
			t.attachment = attaching
			byUser[t.key.user] = append(byUser[t.key.user], t)
		}
	}
	for user, all := range byUser {
		for some := range slices.Chunk(all, positionsMax) {
			positions := map[string]Position{}
			for _, t := range some {
				positions[t.key.id] = t.Position()
				t.fromStart = positions[t.key.id].Seq == 0
			}
			socket := c.socket
			c.send(user, "turn.attach", map[string]any{"positions": positions}, func(result json.RawMessage, err error) {
				c.do(func() { c.onAttached(socket, some, result, err) })
			})
		}
	}
}

// onAttached applies the answer to a turn.attach. It needs the lock.
func (c *core) onAttached(socket *socket, turns []*Turn, result json.RawMessage, err error) {
	if socket != c.socket {
		return // the next socket attaches again
	}
	var answer struct {
		Turns map[string]struct {
			Conversation string `json:"conversation"`
			Status       Status `json:"status"`
			From         int64  `json:"from"`
			Error        *Error `json:"error"`
		} `json:"turns"`
	}
	if err == nil {
		err = json.Unmarshal(result, &answer)
	}
	for _, t := range turns {
		t.attachment = detached
		got, found := answer.Turns[t.key.id]
		refusal := err
		switch {
		case err != nil:
		case !found:
			refusal = &Error{Code: "internal", Message: "The gateway's answer leaves out this turn. Attach again."}
		case got.Error != nil:
			refusal = got.Error
		}
		switch {
		case refusal == nil && t.again:
			t.again = false
			c.attach(t)
		case refusal == nil:
			t.attachment = attached
			t.accepted(got.Conversation, got.Status)
			if got.Status.ended() && got.From > 0 && got.From == t.Position().Seq {
				c.endIfComplete(t)
			}
		case isRetryable(refusal):
			wait := max(retryAfter(refusal), 0)
			if wait == 0 {
				wait = attachRetry
			}
			time.AfterFunc(wait, func() {
				c.do(func() {
					if socket == c.socket {
						c.attach(t)
					}
				})
			})
		default:
			c.end(t, refusal)
		}
	}
}

// endIfComplete ends a turn that has ended at the gateway, if its position is that of the ending: then no event follows.
// The answer to turn.attach doesn't say so, because it may arrive before the events. It needs the lock.
func (c *core) endIfComplete(t *Turn) {
	if t.hasEnded() {
		return
	}
	c.send(t.key.user, "turn.get", map[string]any{"turn": t.key.id}, func(result json.RawMessage, err error) {
		var info TurnInfo
		if err == nil {
			err = json.Unmarshal(result, &info)
		}
		switch {
		case err == nil && info.Seq <= t.Position().Seq:
			c.fail(t, goneAtEnding(info.Message))
		case err != nil && CodeOf(err) != CodeConnectionLost:
			c.fail(t, err)
		}
	})
}

// goneAtEnding is the error of a turn whose position is that of its ending. The message may be nil.
func goneAtEnding(message *Message) *Error {
	gone := &Error{Code: "gone", Message: "The turn has ended at this position already. Read its message."}
	if message != nil {
		gone.StoredMessage = message.ID
	}
	return gone
}
