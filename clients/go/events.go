package turnwire

import "encoding/json"

// Event is an event of a turn: a *Started, *Progress, *PartStarted, *Delta, *Reset, *Completed, *Cancelled, *Failed or
// *Unknown. Its JSON is that of the protocol.
type Event interface {
	// Head returns the fields that every event has.
	Head() EventHead
}

// EventHead has the fields of every event. Seq is the number of the event in its turn. After is set if the event covers more
// than one number: those after After up to Seq.
type EventHead struct {
	Type  string `json:"type"`
	Turn  string `json:"turn"`
	As    string `json:"as,omitempty"`
	Seq   int64  `json:"seq"`
	After *int64 `json:"after,omitempty"`
}

// Head returns the fields that every event has.
func (h EventHead) Head() EventHead { return h }

// Started is turn.started: the gateway has accepted the turn.
type Started struct {
	EventHead
	Epoch  int64  `json:"epoch"`
	Status Status `json:"status"`
	// Conversation, Input and Parent are nil where there is none, as in a stateless turn.
	Conversation *string  `json:"conversation"`
	Model        string   `json:"model"`
	Input        *Message `json:"input"`
	Message      string   `json:"message"`
	Parent       *string  `json:"parent"`
}

// Progress is turn.status: queued, running, waiting, retrying, fallback, continued, trimmed or resumed.
type Progress struct {
	EventHead
	Status   string `json:"status"`
	Position int    `json:"position,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
	DelayMS  *int64 `json:"delay_ms,omitempty"`
	Model    string `json:"model,omitempty"`
	Messages int    `json:"messages,omitempty"`
	Epoch    int64  `json:"epoch,omitempty"`
}

// PartStarted is turn.part: a part of the answer begins.
type PartStarted struct {
	EventHead
	// Index is the number of the part.
	Index int `json:"part"`
	// Part has the fields that are complete.
	Part Part `json:"-"`
}

// MarshalJSON writes the event with the fields of its part.
func (e *PartStarted) MarshalJSON() ([]byte, error) {
	type part Part
	return json.Marshal(struct {
		EventHead
		Index int `json:"part"`
		part
	}{e.EventHead, e.Index, part(e.Part)})
}

// Delta is turn.delta: more of a part.
type Delta struct {
	EventHead
	// Index is the number of the part.
	Index int `json:"part"`
	// Kind is the kind of the part, such as text. It isn't sent by the gateway with a delta.
	Kind string `json:"-"`
	// Text is a piece of text; for a tool call, of its arguments.
	Text string `json:"text,omitempty"`
	// Signature is an opaque piece.
	Signature string `json:"signature,omitempty"`
}

// Reset is turn.reset: what was received of the answer is void, and it begins again.
type Reset struct {
	EventHead
	Epoch  int64  `json:"epoch"`
	Reason string `json:"reason,omitempty"`
}

// Completed is turn.completed: the turn has ended with a whole answer.
type Completed struct {
	EventHead
	FinishReason string  `json:"finish_reason"`
	StopSequence string  `json:"stop_sequence,omitempty"`
	Usage        *Usage  `json:"usage"`
	Cost         *Cost   `json:"cost"`
	Timing       *Timing `json:"timing"`
	Message      string  `json:"message"`
}

// Cancelled is turn.cancelled: the turn was stopped, and the answer so far is kept.
type Cancelled struct {
	EventHead
	// By is client, disconnect, limit or admin.
	By      string  `json:"by"`
	Reason  string  `json:"reason,omitempty"`
	Usage   *Usage  `json:"usage"`
	Cost    *Cost   `json:"cost"`
	Timing  *Timing `json:"timing"`
	Message string  `json:"message"`
}

// Failed is turn.failed: the answer so far is kept.
type Failed struct {
	EventHead
	Error   *Error  `json:"error"`
	Usage   *Usage  `json:"usage"`
	Cost    *Cost   `json:"cost"`
	Timing  *Timing `json:"timing"`
	Message string  `json:"message"`
}

// Unknown is an event of a later version of the protocol.
type Unknown struct {
	EventHead
	// Raw is the event as JSON.
	Raw json.RawMessage
}

// MarshalJSON returns the event as the gateway sent it.
func (e *Unknown) MarshalJSON() ([]byte, error) { return e.Raw, nil }

// Notice is a frame that belongs to no turn that the client follows, such as durability, going_away or
// conversations.changed.
type Notice struct {
	Type string
	// As is the user of the request that the frame results from, with the scope as.
	As string
	// Raw is the frame as JSON.
	Raw json.RawMessage
}

// newEvent returns the event of a frame.
func newEvent(kind string, raw []byte) (Event, error) {
	switch kind {
	case "turn.started":
		return into(raw, &Started{})
	case "turn.status":
		return into(raw, &Progress{})
	case "turn.part":
		event := &PartStarted{}
		if err := json.Unmarshal(raw, event); err != nil {
			return nil, err
		}
		// `part` is the number, and the fields of the part are beside it.
		return event, json.Unmarshal(raw, &event.Part)
	case "turn.delta":
		return into(raw, &Delta{})
	case "turn.reset":
		return into(raw, &Reset{})
	case "turn.completed":
		return into(raw, &Completed{})
	case "turn.cancelled":
		return into(raw, &Cancelled{})
	case "turn.failed":
		return into(raw, &Failed{})
	}
	event := &Unknown{Raw: raw}
	_ = json.Unmarshal(raw, &event.EventHead) // what can't be read stays empty: Raw has it
	return event, nil
}

func into[T Event](raw []byte, event T) (Event, error) {
	return event, json.Unmarshal(raw, event)
}
