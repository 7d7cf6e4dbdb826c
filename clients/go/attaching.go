package turnwire

import (
	"encoding/json"
	"slices"
	"time"
)

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
