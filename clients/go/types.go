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

// Tool is a function that the model may call. Parameters is a JSON schema of type object.
type Tool struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Parameters  any    `json:"parameters,omitempty"`
}

// Params tune a turn. A field that is zero or nil isn't sent.
type Params struct {
	Temperature    *float64       `json:"temperature,omitempty"`
	TopP           *float64       `json:"top_p,omitempty"`
	MaxTokens      int            `json:"max_tokens,omitempty"`
	Stop           []string       `json:"stop,omitempty"`
	Seed           *int64         `json:"seed,omitempty"`
	Reasoning      string         `json:"reasoning,omitempty"`
	ResponseFormat map[string]any `json:"response_format,omitempty"`
	// Demo controls the model demo, for tests.
	Demo map[string]any `json:"demo,omitempty"`
}

// Ptr returns a pointer to a value, for the optional fields of Params.
func Ptr[T any](value T) *T { return &value }

// Start says what to ask. Only Input or one of the fields in its place is required.
type Start struct {
	// Input is text. Parts are used instead if there are any.
	Input string
	Parts []Part
	// Model is an id of Models; by default that of the conversation or of the gateway.
	Model string
	// Turn is the client's id of the turn; by default a random one. A start with an id that is in use doesn't ask again, but
	// follows that turn.
	Turn string
	// Conversation is the id of a conversation; by default a new one. With Create, it is created if it doesn't exist.
	Conversation string
	Create       bool
	// Parent is the message to answer, or with Continue the answer to go on from.
	Parent   string
	Continue bool
	// Messages are the whole context, instead of a conversation and an input. Only their roles and parts are sent.
	Messages []Message
	// System is the system prompt of this turn.
	System string
	Params Params
	Tools  []Tool
	// ToolChoice is "auto", "none", "required" or map[string]any{"name": …}.
	ToolChoice any
	// OnBusy is what to do if the conversation has running turns: parallel, queue, reject or interrupt.
	OnBusy string
	// OnDisconnect is continue, or cancel to stop the turn when no connection follows it any more.
	OnDisconnect string
	// Metadata is stored with the input message.
	Metadata map[string]any
	// Fields are further fields of turn.start by their names on the wire. They replace the fields above.
	Fields map[string]any
}

// fields returns the start as the fields of a frame.
func (s Start) fields() map[string]any {
	fields := map[string]any{}
	texts := map[string]string{
		"input": s.Input, "model": s.Model, "turn": s.Turn, "conversation": s.Conversation, "parent": s.Parent,
		"system": s.System, "on_busy": s.OnBusy, "on_disconnect": s.OnDisconnect,
	}
	for name, text := range texts {
		if text != "" {
			fields[name] = text
		}
	}
	if len(s.Parts) > 0 {
		fields["input"] = s.Parts
	}
	if s.Create {
		fields["create"] = true
	}
	if s.Continue {
		fields["continue"] = true
	}
	if len(s.Messages) > 0 {
		messages := make([]map[string]any, len(s.Messages))
		for i, message := range s.Messages {
			messages[i] = map[string]any{"role": message.Role, "parts": message.Parts}
		}
		fields["messages"] = messages
	}
	if params, err := json.Marshal(s.Params); err != nil || string(params) != "{}" {
		fields["params"] = s.Params
	}
	if len(s.Tools) > 0 {
		fields["tools"] = s.Tools
	}
	if s.ToolChoice != nil {
		fields["tool_choice"] = s.ToolChoice
	}
	if len(s.Metadata) > 0 {
		fields["metadata"] = s.Metadata
	}
	for name, value := range s.Fields {
		fields[name] = value
	}
	return fields
}
