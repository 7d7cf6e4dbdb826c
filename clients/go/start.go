package turnwire

import "encoding/json"

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

// Start says what to ask. It needs Input, or Parts, Messages or Continue in its place.
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
