package turnwire

import (
	"strings"
)

// answer builds the message of a turn from its events.
type answer struct {
	message Message
	status  Status
	parts   map[int]*growingPart
	order   []*growingPart
}

// growingPart is a part whose text grows at its end.
type growingPart struct {
	part      Part
	text      strings.Builder
	signature strings.Builder
}

func (a *answer) ended() bool { return a.status.ended() }

// apply applies an event. If the event isn't possible, it returns why.
func (a *answer) apply(event Event, partial bool) string {
	message := &a.message
	switch event := event.(type) {
	case *Started:
		a.status, message.Model, message.ID = event.Status, event.Model, event.Message
		if event.Conversation != nil {
			message.Conversation = *event.Conversation
		}
		if event.Parent != nil {
			message.Parent = *event.Parent
		}
	case *Progress:
		a.progress(event)
	case *Reset:
		a.parts, a.order, a.status = nil, nil, StatusRunning
	case *PartStarted:
		a.status = StatusRunning
		a.open(event.Index, event.Part)
	case *Delta:
		a.status = StatusRunning
		part := a.parts[event.Index]
		if part == nil {
			if !partial {
				return "a delta is for a part that never began"
			}
			part = a.open(event.Index, Part{Kind: "text"})
		}
		event.Kind = part.part.Kind
		part.text.WriteString(event.Text)
		part.signature.WriteString(event.Signature)
	case *Completed:
		a.status, message.FinishReason, message.StopSequence = StatusCompleted, event.FinishReason, event.StopSequence
		a.end(event.Message, event.Usage, event.Cost, event.Timing)
	case *Cancelled:
		a.status, message.By, message.Reason = StatusCancelled, event.By, event.Reason
		a.end(event.Message, event.Usage, event.Cost, event.Timing)
	case *Failed:
		if event.Error == nil {
			event.Error = &Error{Code: "internal", Message: "The turn failed without an error."}
		}
		a.status, message.Error = StatusFailed, event.Error
		a.end(event.Message, event.Usage, event.Cost, event.Timing)
	}
	return ""
}

func (a *answer) progress(event *Progress) {
	switch event.Status {
	case "fallback", "continued":
		a.message.Model = event.Model
		a.status = StatusRunning
	case "queued":
		a.status = StatusQueued
	case "trimmed":
	default:
		a.status = StatusRunning
	}
}

func (a *answer) open(index int, part Part) *growingPart {
	if a.parts == nil {
		a.parts = map[int]*growingPart{}
	}
	opened := &growingPart{part: part}
	opened.text.WriteString(part.Text)
	opened.signature.WriteString(part.Signature)
	if part.Kind == "tool_call" {
		opened.text.Reset()
		opened.text.WriteString(part.Arguments)
	}
	a.parts[index] = opened
	a.order = append(a.order, opened)
	return opened
}

func (a *answer) end(id string, usage *Usage, cost *Cost, timing *Timing) {
	if id != "" {
		a.message.ID = id
	}
	a.message.Usage, a.message.Cost, a.message.Timing = usage, cost, timing
}

// snapshot returns the message so far. It shares no memory that changes.
func (a *answer) snapshot() Message {
	message := a.message
	message.Parts = make([]Part, len(a.order))
	for i, growing := range a.order {
		part := growing.part
		part.Signature = growing.signature.String()
		if part.Kind == "tool_call" {
			part.Arguments = growing.text.String()
		} else {
			part.Text = growing.text.String()
		}
		message.Parts[i] = part
	}
	if a.ended() {
		message.Ended = a.status
	}
	return message
}
