package turnwire

import (
	"encoding/json"
	"strings"
	"time"
)

// Position says how much of a turn was received: up to the event Seq of the epoch Epoch. The zero value is the beginning.
type Position struct {
	Epoch int64 `json:"epoch"`
	Seq   int64 `json:"seq"`
}

// Status is the state of a turn.
type Status string

// The states of a turn. The last three are endings.
const (
	StatusStarting  Status = "starting" // the gateway hasn't answered yet
	StatusQueued    Status = "queued"
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusCancelled Status = "cancelled"
	StatusFailed    Status = "failed"
)

func (s Status) ended() bool {
	return s == StatusCompleted || s == StatusCancelled || s == StatusFailed
}

// Outcome is what a cancel request did to a turn.
type Outcome string

// The outcomes of a cancel request.
const (
	OutcomeCancelled    Outcome = "cancelled"
	OutcomeAlreadyEnded Outcome = "already_ended"
	OutcomeNotFound     Outcome = "not_found"
)

// Usage counts tokens.
type Usage struct {
	InputTokens      int64 `json:"input_tokens"`
	OutputTokens     int64 `json:"output_tokens"`
	ReasoningTokens  int64 `json:"reasoning_tokens,omitempty"`
	CacheReadTokens  int64 `json:"cache_read_tokens,omitempty"`
	CacheWriteTokens int64 `json:"cache_write_tokens,omitempty"`
	// Estimated: the provider didn't report all of the numbers.
	Estimated bool `json:"estimated,omitempty"`
}

// Cost is an amount of money, as decimal text such as "0.001230".
type Cost struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// Timing has milliseconds since the turn's acceptance, and the number of requests to providers.
type Timing struct {
	QueuedMS int64  `json:"queued_ms"`
	TTFTMS   *int64 `json:"ttft_ms,omitempty"`
	TotalMS  int64  `json:"total_ms"`
	Attempts int    `json:"attempts"`
}

// Part is a piece of a message. Kind says which of the fields it has.
type Part struct {
	// Kind is text, reasoning, tool_call, tool_result, image, file, citation or refusal.
	Kind string `json:"kind"`
	Text string `json:"text,omitempty"`
	// Call is the id of a tool call, in the call and in its result.
	Call string `json:"call,omitempty"`
	Name string `json:"name,omitempty"`
	// Arguments of a tool call are JSON as the model wrote it, which may be invalid.
	Arguments string `json:"arguments,omitempty"`
	// Output of a tool result is text; Failed says that it describes an error.
	Output string `json:"output,omitempty"`
	Failed bool   `json:"error,omitempty"`
	// MediaType of an image or file, with its Data in base64, or its URL.
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
	Title     string `json:"title,omitempty"`
	Redacted  bool   `json:"redacted,omitempty"`
	// Size of an image of an answer, in bytes.
	Size      int64  `json:"size,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// TextPart returns a part of text.
func TextPart(text string) Part { return Part{Kind: "text", Text: text} }

// MarshalJSON writes the fields that the part's kind requires even if they are empty.
func (p Part) MarshalJSON() ([]byte, error) {
	type plain Part
	out := struct {
		plain
		Text      *string `json:"text,omitempty"`
		Arguments *string `json:"arguments,omitempty"`
		Output    *string `json:"output,omitempty"`
	}{plain: plain(p)}
	if p.Text != "" || p.Kind == "text" || p.Kind == "reasoning" || p.Kind == "refusal" {
		out.Text = &p.Text
	}
	if p.Arguments != "" || p.Kind == "tool_call" {
		out.Arguments = &p.Arguments
	}
	if p.Output != "" || p.Kind == "tool_result" {
		out.Output = &p.Output
	}
	return json.Marshal(out)
}

// Message is a message of a conversation, or the answer of a turn.
type Message struct {
	ID string `json:"id"`
	// Role is user, assistant, tool or system.
	Role  string `json:"role"`
	Parts []Part `json:"parts"`
	// Parent is the id of the message that this one follows; "" if there is none.
	Parent    string    `json:"parent,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	// Turn and Conversation are the ids of those that the message belongs to. A stateless turn has no conversation.
	Turn         string `json:"turn,omitempty"`
	Conversation string `json:"conversation,omitempty"`
	Model        string `json:"model,omitempty"`
	Provider     string `json:"provider,omitempty"`
	// Ended says how the answer ended; "" while it runs, and for other messages.
	Ended Status `json:"ended,omitempty"`
	// FinishReason of a completed answer is stop, length, tool_calls, content_filter or refusal.
	FinishReason string `json:"finish_reason,omitempty"`
	StopSequence string `json:"stop_sequence,omitempty"`
	// By and Reason say who cancelled a cancelled answer, and why.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Error of a failed answer.
	Error *Error `json:"error,omitempty"`
	// Usage, Cost and Timing are nil where they aren't known.
	Usage    *Usage         `json:"usage,omitempty"`
	Cost     *Cost          `json:"cost,omitempty"`
	Timing   *Timing        `json:"timing,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
	// Rating is "up", "down", or a number from 1 to 5; nil if the message wasn't rated.
	Rating  any    `json:"rating,omitempty"`
	Comment string `json:"comment,omitempty"`
}

// Text returns the text parts of the message, joined.
func (m Message) Text() string {
	var text strings.Builder
	for _, part := range m.Parts {
		if part.Kind == "text" {
			text.WriteString(part.Text)
		}
	}
	return text.String()
}

// Conversation is a tree of messages. Head is the message that a new turn answers by default.
type Conversation struct {
	ID        string         `json:"id"`
	Title     string         `json:"title"`
	System    string         `json:"system"`
	Model     string         `json:"model"`
	Metadata  map[string]any `json:"metadata"`
	Head      string         `json:"head"`
	Revision  int64          `json:"revision"`
	Pinned    bool           `json:"pinned"`
	CreatedAt time.Time      `json:"created_at"`
	UpdatedAt time.Time      `json:"updated_at"`
	// Messages is their number.
	Messages int64  `json:"messages"`
	Usage    *Usage `json:"usage"`
	Cost     *Cost  `json:"cost"`
	// Match says where a search found its words; nil if they are in the title alone.
	Match *struct {
		Message string `json:"message"`
		Snippet string `json:"snippet"`
	} `json:"match"`
}

// Model is a model of the gateway.
type Model struct {
	ID string `json:"id"`
	// Name is for people; Type is the provider.
	Name string `json:"name"`
	Type string `json:"type"`
	// Available says whether the gateway has what it needs to use the model.
	Available     bool            `json:"available"`
	Features      json.RawMessage `json:"features"`
	ContextWindow int64           `json:"context_window"`
	MaxOutput     int64           `json:"max_output"`
	Aliases       []string        `json:"aliases"`
	Legacy        bool            `json:"legacy"`
	Continues     bool            `json:"continues"`
}
