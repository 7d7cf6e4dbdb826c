package turnwire

import (
	"cmp"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"
)

// receive handles a frame. An error means that it can't be understood.
func (c *core) receive(raw []byte, retry *backoff) error {
	var frame struct {
		Type string `json:"type"`
		As   string `json:"as"`
		Turn string `json:"turn"`
		Seq  *int64 `json:"seq"`
	}
	if err := json.Unmarshal(raw, &frame); err != nil || frame.Type == "" {
		// A later version may have frames of other types, whose fields have another meaning.
		if err == nil || frame.Type == "" || knownTypes[frame.Type] {
			return cmp.Or(err, errors.New("the frame has no type"))
		}
		frame.Turn = ""
	}
	switch {
	case frame.Type == "result" || frame.Type == "result.piece" || frame.Type == "error":
		return c.receiveAnswer(frame.Type, raw)
	case frame.Turn != "":
		return c.receiveEvent(turnKey{frame.As, frame.Turn}, frame.Type, frame.Seq != nil, raw)
	case frame.Type == "heartbeat":
		return nil
	}
	c.receiveNotice(frame.Type, raw, retry)
	c.notify(Notice{Type: frame.Type, As: frame.As, Raw: raw})
	return nil
}

// knownTypes are the frames whose fields this package reads.
var knownTypes = map[string]bool{
	"result": true, "result.piece": true, "error": true, "turn.started": true, "turn.status": true, "turn.part": true,
	"turn.delta": true, "turn.reset": true, "turn.completed": true, "turn.cancelled": true, "turn.failed": true,
	"turn.detached": true,
}

func (c *core) receiveAnswer(kind string, raw []byte) error {
	var answer answerFrame
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	if answer.ID == "" {
		c.logger.Warn("turnwire: the gateway refused a frame", "error", answer.Error)
		return nil
	}
	c.do(func() {
		if one, result, err := c.requests.receive(kind, answer); one != nil {
			c.after = append(c.after, func() { one.done(result, err) })
		}
	})
	return nil
}

// receiveNotice applies a frame about the connection.
func (c *core) receiveNotice(kind string, raw []byte, retry *backoff) {
	var notice struct {
		ReconnectAfterMS *int64 `json:"reconnect_after_ms"`
		ExpiresAt        string `json:"expires_at"`
	}
	if json.Unmarshal(raw, &notice) != nil {
		return
	}
	switch kind {
	case "going_away":
		if notice.ReconnectAfterMS != nil {
			wait := max(0, time.Duration(*notice.ReconnectAfterMS)*time.Millisecond)
			retry.requested = wait + rand.N(wait/4+1)
		}
	case "auth.expiring":
		c.renew(notice.ExpiresAt)
	}
}

func (c *core) receiveEvent(key turnKey, kind string, numbered bool, raw []byte) error {
	event, err := newEvent(kind, raw)
	if err != nil {
		return err
	}
	c.do(func() {
		t, ended := c.turns[key], c.past[key]
		switch {
		case t != nil && kind == "turn.detached":
			if t.attachment == attaching {
				t.again = true
				return
			}
			t.attachment = detached
			c.attach(t)
		case t != nil:
			c.apply(t, event, numbered)
		case ended && numbered:
			c.violated(&LawViolation{Law: 2, Turn: key.id, Detail: kind + " came after the ending"})
		default:
			c.notify(Notice{Type: kind, As: key.user, Raw: raw})
		}
	})
	return nil
}

// apply needs the lock.
func (c *core) apply(t *Turn, event Event, numbered bool) {
	if started, ok := event.(*Started); ok && t.fromStart && t.Position().Seq > 0 {
		t.fromStart = false
		head := EventHead{Type: "turn.reset", Turn: t.key.id, As: t.key.user}
		_, _ = t.receive(&Reset{head, started.Epoch, "the turn was attached from its start"}, true)
	}
	ended, err := t.receive(event, numbered)
	if err != nil {
		c.violated(err.(*LawViolation))
		c.end(t, err)
		// Further events can't be applied.
		c.send(t.key.user, "turn.detach", map[string]any{"turn": t.key.id}, func(json.RawMessage, error) {})
		return
	}
	if t.attachment == detached {
		t.attachment = attached
	}
	if ended {
		c.forget(t, true)
	}
}

// violated needs the lock.
func (c *core) violated(violation *LawViolation) {
	c.logger.Error("turnwire: the gateway broke a law of the protocol", "error", violation)
	if len(c.facts.Violations) < violationsMax {
		c.facts.Violations = append(c.facts.Violations, violation)
	}
}
