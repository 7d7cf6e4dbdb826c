package turnwire

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"
)

// cancelGrace is how long a turn whose context is done waits for the ending that the gateway sends.
const cancelGrace = 5 * time.Second

// ErrAnswerReplaced ends the iteration of Text if the answer began again with other words than those already yielded. Wait
// returns the whole new text, and Events shows what happens.
var ErrAnswerReplaced = errors.New("turnwire: the answer began again with another text; read it with Wait")

// turnKey identifies a turn on a connection.
type turnKey struct{ user, id string }

// attachment says whether the events of a turn arrive on the current socket.
type attachment int

const (
	detached  attachment = iota
	attaching            // turn.attach was sent and isn't answered yet
	attached
)

// Turn is one question and its answer. Its methods may be called by many goroutines.
//
// The events can be read by one goroutine, with Events or Text. They needn't be read: the turn collects its message anyway,
// and an absent or slow reader slows neither the gateway nor other turns. Pieces of text that wait for the reader are merged.
type Turn struct {
	core *core
	key  turnKey

	// Guarded by core.mu.
	attachment attachment
	// fromStart: it was attached from its first event, which may arrive twice if it was on its way to an attached conversation.
	fromStart bool
	again     bool     // it was detached while attaching
	starting  *request // its unanswered turn.start
	ctx       context.Context
	stop      func() // stops the turn because its context is done
	stopping  sync.Once

	mu       sync.Mutex
	changed  *sync.Cond
	answer   answer
	queue    eventQueue
	position Position
	// partial: it was attached in the middle, so that its first parts aren't known.
	partial bool
	ended   bool
	err     error
	done    chan struct{}
	// begun is closed when the gateway has accepted the turn, or the turn has ended.
	begun chan struct{}
	stops []func() bool // of the context and of timers
}

func newTurn(c *core, key turnKey) *Turn {
	t := &Turn{core: c, key: key, done: make(chan struct{}), begun: make(chan struct{})}
	t.changed = sync.NewCond(&t.mu)
	t.answer.message = Message{Role: "assistant", Turn: key.id}
	t.answer.status = StatusStarting
	return t
}

// ID returns the turn's id.
func (t *Turn) ID() string { return t.key.id }

// User returns the user for whom the turn was started, with As; otherwise "".
func (t *Turn) User() string { return t.key.user }

// Status returns the state of the turn.
func (t *Turn) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answer.status
}

// Position returns how much of the turn was received. A program can keep it, and continue there with Attach.
func (t *Turn) Position() Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.position
}

// Message returns the answer so far.
func (t *Turn) Message() Message {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answer.snapshot()
}

// Done returns a channel that is closed when the turn has ended.
func (t *Turn) Done() <-chan struct{} { return t.done }

// Wait waits for the ending and returns the answer. A turn that was cancelled returns the answer so far, without an error;
// its Ended is StatusCancelled. The error of a turn that failed is a *TurnError.
//
// If ctx is done first, Wait returns the answer so far and the error of ctx. This stops only the wait: the context of Start
// stops the turn.
func (t *Turn) Wait(ctx context.Context) (Message, error) {
	select {
	case <-t.done:
	case <-ctx.Done():
		select {
		case <-t.done:
		default:
			return t.Message(), ctx.Err()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answer.snapshot(), t.err
}

// Cancel stops the turn, whatever its state is, and returns what became of it. By the time of the answer, the gateway has
// closed its connection to the provider. The reason may be "".
func (t *Turn) Cancel(ctx context.Context, reason string) (Outcome, error) {
	return t.core.cancelTurn(ctx, t, reason)
}

// Events iterates over the events that weren't read yet, and waits for more until the turn has ended. The last event is the
// ending. If the turn failed, the last pair is nil and a *TurnError.
func (t *Turn) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := t.next()
			if event == nil && err == nil {
				return
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// next waits for an event. At the end, the event is nil.
func (t *Turn) next() (Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.queue.len() == 0 {
		if t.ended {
			return nil, t.err
		}
		t.changed.Wait()
	}
	return t.queue.pop(), nil
}

// Text iterates over the text of the answer in pieces, as it arrives. It reads the events, like Events. If the turn failed,
// the last pair is "" and a *TurnError. If the answer begins again (*Reset), words that were already yielded are left out;
// if they differ, or the new answer is shorter, the error is ErrAnswerReplaced.
func (t *Turn) Text() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var yielded strings.Builder
		again := "" // what was yielded before a reset and hasn't come again
		for event, err := range t.Events() {
			if err != nil {
				yield("", err)
				return
			}
			switch event := event.(type) {
			case *Reset:
				again = yielded.String()
			case *Completed:
				if again != "" {
					yield("", ErrAnswerReplaced)
					return
				}
			case *Delta:
				if event.Kind != "text" || event.Text == "" {
					continue
				}
				text := event.Text
				known := min(len(again), len(text))
				if text[:known] != again[:known] {
					yield("", ErrAnswerReplaced)
					return
				}
				if text, again = text[known:], again[known:]; text == "" {
					continue
				}
				yielded.WriteString(text)
				if !yield(text, nil) {
					return
				}
			}
		}
	}
}

// watch calls stop, once, when ctx is done. A turn that hasn't ended 5 s later fails here.
func (t *Turn) watch(ctx context.Context, stop func(cause error)) {
	t.ctx = ctx
	t.stop = func() {
		t.stopping.Do(func() {
			cause := context.Cause(ctx)
			stop(cause)
			timer := time.AfterFunc(cancelGrace, func() { t.core.fail(t, cause) })
			t.onEnd(timer.Stop)
		})
	}
	t.onEnd(context.AfterFunc(ctx, t.stop))
}

// onEnd calls stop when the turn has ended.
func (t *Turn) onEnd(stop func() bool) {
	t.mu.Lock()
	if !t.ended {
		t.stops = append(t.stops, stop)
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	stop()
}

// receive applies the next event. It returns whether the turn has ended, and a *LawViolation if the event doesn't continue
// the position.
func (t *Turn) receive(event Event, numbered bool) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	head := event.Head()
	reset, isReset := event.(*Reset)
	switch {
	case isReset:
		t.position, t.partial = Position{reset.Epoch, head.Seq}, false
	case numbered:
		after := head.Seq - 1
		if head.After != nil {
			after = *head.After
		}
		if after != t.position.Seq || head.Seq <= after {
			return false, t.violation(1, "%s continues %d, but the last event was %d", head.Type, after, t.position.Seq)
		}
	}
	if err := t.answer.apply(event, t.partial); err != "" {
		return false, t.violation(1, "%s", err)
	}
	if numbered && !isReset {
		t.position.Seq = head.Seq
	}
	if epoch := epochOf(event); epoch > 0 {
		t.position.Epoch = epoch
	}
	t.queue.push(event)
	if failed, ok := event.(*Failed); ok {
		t.err = &TurnError{Err: failed.Error, Message: t.answer.snapshot()}
	}
	ended := t.answer.ended()
	if ended {
		t.end()
	}
	t.changed.Broadcast()
	return ended, nil
}

func (t *Turn) violation(law int, format string, arguments ...any) *LawViolation {
	return &LawViolation{Law: law, Turn: t.key.id, Detail: fmt.Sprintf(format, arguments...)}
}

func epochOf(event Event) int64 {
	switch event := event.(type) {
	case *Started:
		return event.Epoch
	case *Progress:
		return event.Epoch
	}
	return 0
}

// settle ends the turn on this side only. An error makes it fail, nil makes it cancelled. It returns whether it hadn't ended.
func (t *Turn) settle(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.answer.status = StatusCancelled
	t.answer.message.By = "client"
	if err != nil {
		t.answer.status = StatusFailed
		t.answer.message.By = ""
		errors.As(err, &t.answer.message.Error)
		t.err = &TurnError{Err: err, Message: t.answer.snapshot()}
	}
	t.end()
	t.changed.Broadcast()
	return true
}

// end needs t.mu.
func (t *Turn) end() {
	t.ended = true
	t.begin()
	close(t.done)
	for _, stop := range t.stops {
		stop()
	}
	t.stops = nil
}

// begin needs t.mu.
func (t *Turn) begin() {
	select {
	case <-t.begun:
	default:
		close(t.begun)
	}
}

// accepted applies the answer to turn.start or turn.attach.
func (t *Turn) accepted(conversation string, status Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answer.message.Conversation == "" {
		t.answer.message.Conversation = conversation
	}
	t.begin()
	if t.answer.status == StatusStarting {
		t.answer.status = StatusRunning
		if status == StatusQueued {
			t.answer.status = StatusQueued
		}
	}
}

func (t *Turn) hasEnded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}
