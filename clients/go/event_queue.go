package turnwire

import (
	"slices"
	"strings"
)

// eventQueue holds the events that weren't read yet. Adjacent deltas of one part are merged, as the gateway merges them, so
// that the queue stays short.
type eventQueue struct {
	events []Event
	// more is the text after that of the last event, which is then a *Delta of this queue.
	more *strings.Builder
}

func (q *eventQueue) len() int { return len(q.events) }

func (q *eventQueue) push(event Event) {
	delta, isDelta := event.(*Delta)
	if isDelta && len(q.events) > 0 && delta.Text != "" && delta.Signature == "" {
		last, ok := q.events[len(q.events)-1].(*Delta)
		if ok && last.Index == delta.Index && last.Text != "" && last.Signature == "" {
			if last.After == nil {
				last.After = Ptr(last.Seq - 1)
			}
			last.Seq = delta.Seq
			if q.more == nil {
				q.more = &strings.Builder{}
				q.more.WriteString(last.Text)
			}
			q.more.WriteString(delta.Text)
			return
		}
	}
	q.flush()
	q.events = append(q.events, event)
}

// flush completes the last event.
func (q *eventQueue) flush() {
	if q.more != nil {
		q.events[len(q.events)-1].(*Delta).Text = q.more.String()
		q.more = nil
	}
}

func (q *eventQueue) pop() Event {
	if len(q.events) == 1 {
		q.flush()
	}
	first := q.events[0]
	q.events[0] = nil
	if q.events = q.events[1:]; len(q.events) == 0 {
		q.events = nil
	} else if cap(q.events) > 1024 && len(q.events) < cap(q.events)/4 {
		q.events = slices.Clone(q.events)
	}
	return first
}
