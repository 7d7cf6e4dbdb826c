package turnwire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// repeatable are the requests that can be sent twice without harm. If the connection is lost, they are sent again.
var repeatable = map[string]bool{
	"turn.start": true, "turn.cancel": true, "turn.get": true, "turn.estimate": true, "models.list": true, "usage.get": true,
	"conversation.list": true, "conversation.get": true, "conversation.messages": true, "feedback.put": true,
}

// request is a request that has no answer yet.
type request struct {
	id         uint64
	kind       string
	frame      []byte // JSON
	turn       *Turn  // of a turn.start
	repeatable bool
	sent       bool
	large      bool // it goes over HTTP, because it doesn't fit in a frame
	pieces     []string
	// done gets the answer, without any lock held.
	done func(json.RawMessage, error)
}

// requests are the unanswered requests of a connection. The lock of the core guards them.
type requests struct {
	last    uint64
	pending map[uint64]*request
}

// add builds the frame of a request. It fails if the fields aren't JSON.
func (r *requests) add(user, kind string, fields any, done func(json.RawMessage, error)) (*request, error) {
	named, err := namedFields(fields)
	if err != nil {
		return nil, err
	}
	r.last++
	added := &request{id: r.last, kind: kind, done: done}
	_, withID := named["conversation"]
	added.repeatable = repeatable[kind] || kind == "conversation.create" && withID
	named["type"], _ = json.Marshal(kind)
	named["id"] = json.RawMessage(`"` + strconv.FormatUint(r.last, 10) + `"`)
	if user != "" {
		named["as"], _ = json.Marshal(user)
	}
	if added.frame, err = json.Marshal(named); err != nil {
		return nil, invalidFields(err)
	}
	r.pending[added.id] = added
	return added, nil
}

// namedFields returns the fields of a request by their names. The map is new.
func namedFields(fields any) (map[string]json.RawMessage, error) {
	named := map[string]json.RawMessage{}
	if fields == nil {
		return named, nil
	}
	encoded, err := json.Marshal(fields)
	if err != nil {
		return nil, invalidFields(err)
	}
	if bytes.Equal(encoded, []byte("null")) {
		return named, nil
	}
	if err := json.Unmarshal(encoded, &named); err != nil {
		return nil, invalidFields(err)
	}
	return named, nil
}

func invalidFields(err error) *Error {
	return &Error{
		Code: "invalid_request", Message: "The fields of the request can't be sent: use a map or a struct that is valid JSON.", cause: err,
	}
}

// ordered returns the requests in the order in which they were made.
func (r *requests) ordered() []*request {
	return slices.SortedFunc(maps.Values(r.pending), func(a, b *request) int { return cmp.Compare(a.id, b.id) })
}

// take removes a request if it is still unanswered.
func (r *requests) take(one *request) bool {
	if r.pending[one.id] != one {
		return false
	}
	r.remove(one)
	return true
}

func (r *requests) remove(one *request) {
	delete(r.pending, one.id)
	if one.turn != nil {
		one.turn.starting = nil
	}
}

// answerFrame has the fields of answers.
type answerFrame struct {
	ID     string          `json:"id"`
	Result json.RawMessage `json:"result"`
	Pieces int             `json:"pieces"`
	Text   string          `json:"text"`
	Error  *Error          `json:"error"`
}

// receive handles an answer. It returns the request that is done with its result or error, or nil.
func (r *requests) receive(kind string, answer answerFrame) (*request, json.RawMessage, error) {
	id, err := strconv.ParseUint(answer.ID, 10, 64)
	one := r.pending[id]
	if err != nil || one == nil {
		return nil, nil, nil
	}
	switch {
	case kind == "result.piece":
		one.pieces = append(one.pieces, answer.Text)
		return nil, nil, nil
	case kind == "result" && answer.Pieces > 0:
		r.remove(one)
		var whole bytes.Buffer
		for _, piece := range one.pieces {
			whole.WriteString(piece)
		}
		if len(one.pieces) != answer.Pieces || !json.Valid(whole.Bytes()) {
			return one, nil, &Error{Code: "internal", Message: "The gateway's answer in pieces isn't complete. Try again.", Retryable: true}
		}
		return one, whole.Bytes(), nil
	case kind == "result":
		r.remove(one)
		return one, answer.Result, nil
	case answer.Error == nil:
		answer.Error = &Error{Code: "internal", Message: "The gateway sent an error without content."}
	case answer.Error.Code == "shutting_down" && one.kind == "turn.start":
		one.sent = false // nothing was stored, so the next connection sends it again
		return nil, nil, nil
	}
	r.remove(one)
	return one, nil, answer.Error
}

// lost returns the requests that can't be repeated, now that the connection is lost.
func (r *requests) lost() []*request {
	var failed []*request
	for _, one := range r.ordered() {
		one.pieces = nil
		if one.sent && !one.repeatable {
			r.remove(one)
			failed = append(failed, one)
		}
	}
	return failed
}
