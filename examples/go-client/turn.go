package main

import (
	"fmt"
	"strings"
)

// frame has the fields of server frames that this client reads. It ignores all others.
type frame struct {
	Type   string    `json:"type"`
	ID     string    `json:"id"`
	As     string    `json:"as"`
	Turn   string    `json:"turn"`
	Seq    int64     `json:"seq"`
	After  *int64    `json:"after"`
	Epoch  int64     `json:"epoch"`
	Status string    `json:"status"`
	Reason string    `json:"reason"`
	Part   int       `json:"part"`
	Kind   string    `json:"kind"`
	Text   string    `json:"text"`
	Error  *apiError `json:"error"`
	Result struct {
		Turns map[string]struct {
			Error *apiError `json:"error"`
		} `json:"turns"`
	} `json:"result"`
}

type apiError struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Retryable    bool   `json:"retryable"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// position says which events of a turn the client has received. The turn can be continued from it.
type position struct {
	Epoch int64 `json:"epoch"`
	Seq   int64 `json:"seq"`
}

// turn builds the text of one turn from its frames, and checks laws 1 and 2 of docs/protocol.md.
type turn struct {
	position
	ended string // the type of its ending
	err   *apiError
	kinds map[int]string
	text  strings.Builder // of its text parts
}

// apply applies a frame and returns the new text. If again is true, the text starts over.
func (t *turn) apply(f frame) (text string, again bool, err error) {
	if t.ended != "" {
		return "", false, fmt.Errorf("law 2: %s after %s", f.Type, t.ended)
	}
	if f.Type == "turn.reset" {
		t.position = position{f.Epoch, f.Seq}
		t.text.Reset()
		t.kinds = nil
		return "", true, nil
	}
	after := f.Seq - 1
	if f.After != nil {
		after = *f.After
	}
	if after != t.Seq {
		return "", false, fmt.Errorf("law 1: %s continues seq %d, but the last seq is %d", f.Type, after, t.Seq)
	}
	t.Seq = f.Seq
	switch f.Type {
	case "turn.started":
		t.Epoch = f.Epoch
	case "turn.status":
		if f.Status == "resumed" {
			t.Epoch = f.Epoch
		}
	case "turn.part":
		if t.kinds == nil {
			t.kinds = map[int]string{}
		}
		t.kinds[f.Part] = f.Kind
	case "turn.delta":
		if t.kinds[f.Part] == "text" {
			t.text.WriteString(f.Text)
			text = f.Text
		}
	case "turn.completed", "turn.cancelled", "turn.failed":
		t.ended, t.err = f.Type, f.Error
	}
	return text, false, nil
}
