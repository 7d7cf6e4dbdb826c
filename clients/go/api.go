package turnwire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// result sends a request and reads its result.
func result[T any](ctx context.Context, c *Client, kind string, fields any) (T, error) {
	var read T
	raw, err := c.Request(ctx, kind, fields)
	if err == nil {
		err = json.Unmarshal(raw, &read)
	}
	return read, err
}

// ConversationList selects conversations. Query and Pinned can't be combined.
type ConversationList struct {
	// Query searches titles and messages.
	Query string `json:"query,omitempty"`
	// Pinned selects the pinned ones.
	Pinned bool `json:"pinned,omitempty"`
	// Limit is the size of a page, from 1 to 200; by default 50.
	Limit int `json:"limit,omitempty"`
	// Before continues a list: the Next of an earlier page.
	Before string `json:"before,omitempty"`
}

// Conversations iterates over the user's conversations, most recently changed first. Each page is requested when it is
// needed. An error ends the iteration.
func (c *Client) Conversations(ctx context.Context, list ConversationList) iter.Seq2[Conversation, error] {
	return func(yield func(Conversation, error) bool) {
		for {
			page, err := result[struct {
				Conversations []Conversation `json:"conversations"`
				Next          string         `json:"next"`
			}](ctx, c, "conversation.list", list)
			if err != nil {
				yield(Conversation{}, err)
				return
			}
			for _, one := range page.Conversations {
				if !yield(one, nil) {
					return
				}
			}
			if list.Before = page.Next; list.Before == "" {
				return
			}
		}
	}
}

// Conversation returns a conversation.
func (c *Client) Conversation(ctx context.Context, id string) (Conversation, error) {
	return result[Conversation](ctx, c, "conversation.get", map[string]any{"conversation": id})
}

// NewConversation says what a conversation begins with. An empty field isn't sent.
type NewConversation struct {
	// ID is the client's own id. A conversation that exists is returned as it is.
	ID       string         `json:"conversation,omitempty"`
	Title    string         `json:"title,omitempty"`
	System   string         `json:"system,omitempty"`
	Model    string         `json:"model,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

// CreateConversation creates a conversation. Start does so by itself if it names none.
func (c *Client) CreateConversation(ctx context.Context, fields NewConversation) (Conversation, error) {
	return result[Conversation](ctx, c, "conversation.create", fields)
}

// ConversationUpdate says what to change. A field that is nil stays as it is.
type ConversationUpdate struct {
	Title    *string        `json:"title,omitempty"`
	System   *string        `json:"system,omitempty"`
	Model    *string        `json:"model,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
	Head     *string        `json:"head,omitempty"`
	Pinned   *bool          `json:"pinned,omitempty"`
}

// UpdateConversation changes a conversation and returns it.
func (c *Client) UpdateConversation(ctx context.Context, id string, update ConversationUpdate) (Conversation, error) {
	return result[Conversation](ctx, c, "conversation.update", struct {
		ID string `json:"conversation"`
		ConversationUpdate
	}{id, update})
}

// ClearConversation lets later turns begin with an empty context. The history is kept.
func (c *Client) ClearConversation(ctx context.Context, id string) error {
	_, err := c.Request(ctx, "conversation.clear", map[string]any{"conversation": id})
	return err
}

// DeleteConversation cancels the running turns of a conversation and deletes it.
func (c *Client) DeleteConversation(ctx context.Context, id string) error {
	_, err := c.Request(ctx, "conversation.delete", map[string]any{"conversation": id})
	return err
}

// History iterates over the messages of a conversation, the newest first, in all branches. Each page is requested when it
// is needed. An error ends the iteration.
func (c *Client) History(ctx context.Context, conversation string) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		fields := map[string]any{"conversation": conversation}
		for {
			page, err := result[struct {
				Messages []Message `json:"messages"`
				Next     string    `json:"next"`
			}](ctx, c, "conversation.messages", fields)
			if err != nil {
				yield(Message{}, err)
				return
			}
			for i := len(page.Messages) - 1; i >= 0; i-- { // a page begins with its oldest message
				if !yield(page.Messages[i], nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			fields["before"] = page.Next
		}
	}
}

// Models returns the models that the gateway lists, and the id of its default.
func (c *Client) Models(ctx context.Context) (models []Model, byDefault string, err error) {
	list, err := result[struct {
		Models  []Model `json:"models"`
		Default string  `json:"default"`
	}](ctx, c, "models.list", nil)
	return list.Models, list.Default, err
}

// UsageQuery selects turns. The zero value selects all.
type UsageQuery struct {
	Conversation string
	Since        time.Time
}

// Usage returns sums over the user's ended turns. The cost is nil if no turn had a price.
func (c *Client) Usage(ctx context.Context, query UsageQuery) (Usage, *Cost, error) {
	fields := map[string]any{}
	if query.Conversation != "" {
		fields["conversation"] = query.Conversation
	}
	if !query.Since.IsZero() {
		fields["since"] = query.Since.Format(time.RFC3339)
	}
	sums, err := result[struct {
		Usage Usage `json:"usage"`
		Cost  *Cost `json:"cost"`
	}](ctx, c, "usage.get", fields)
	return sums.Usage, sums.Cost, err
}

// Feedback rates a message: "up", "down", or a number from 1 to 5. A second rating replaces the first.
func (c *Client) Feedback(ctx context.Context, message string, rating any, comment string) error {
	fields := map[string]any{"message": message, "rating": rating}
	if comment != "" {
		fields["comment"] = comment
	}
	_, err := c.Request(ctx, "feedback.put", fields)
	return err
}

// Cancellation selects turns to cancel: by their ids, those of a conversation, or all of the user.
type Cancellation struct {
	Turns        []string `json:"turns,omitempty"`
	Conversation string   `json:"conversation,omitempty"`
	Mine         bool     `json:"mine,omitempty"`
	Reason       string   `json:"reason,omitempty"`
}

// Cancel cancels turns, also those that this client doesn't follow, and returns the outcome for each of them.
func (c *Client) Cancel(ctx context.Context, turns Cancellation) (map[string]Outcome, error) {
	answer, err := result[struct {
		Turns map[string]Outcome `json:"turns"`
	}](ctx, c, "turn.cancel", turns)
	return answer.Turns, err
}

// TurnInfo is what the gateway knows of a turn.
type TurnInfo struct {
	Turn         string `json:"turn"`
	Conversation string `json:"conversation"`
	Status       Status `json:"status"`
	Epoch        int64  `json:"epoch"`
	Seq          int64  `json:"seq"`
	Model        string `json:"model"`
	// Message is the answer so far; nil if it was deleted.
	Message      *Message `json:"message"`
	FinishReason string   `json:"finish_reason"`
	Usage        *Usage   `json:"usage"`
	Cost         *Cost    `json:"cost"`
	Timing       *Timing  `json:"timing"`
	Error        *Error   `json:"error"`
}

// GetTurn returns what the gateway knows of a turn, without following it.
func (c *Client) GetTurn(ctx context.Context, id string) (TurnInfo, error) {
	return result[TurnInfo](ctx, c, "turn.get", map[string]any{"turn": id})
}

// Ping returns the time of a request and its answer.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	_, err := c.Request(ctx, "ping", nil)
	return time.Since(begun), err
}

// ExportLine is a line of an export. Kind is user, conversation, message, usage or end. Raw has all of its fields.
type ExportLine struct {
	Kind string
	Raw  json.RawMessage
}

// ErrExportCut ends the iteration of an export whose last line never came. Export again.
var ErrExportCut = errors.New("turnwire: the export was cut before its last line; export again")

// Export iterates over all data of a user, over HTTP: of the user of As, of another one if the credential has the scope as
// or admin, or of the client's own if user is "". An export that isn't complete ends with ErrExportCut.
func (c *Client) Export(ctx context.Context, user string) iter.Seq2[ExportLine, error] {
	path := "/v1/users/me/export"
	if user == "" {
		user = c.user
	}
	if user != "" {
		path = "/v1/users/" + url.PathEscape(user) + "/export?exact=true"
	}
	return func(yield func(ExportLine, error) bool) {
		response, err := c.core.exchange(ctx, http.MethodGet, path, nil, nil)
		if network := (*url.Error)(nil); errors.As(err, &network) && ctx.Err() == nil {
			err = c.core.unreachable(err)
		}
		if err != nil {
			yield(ExportLine{}, err)
			return
		}
		defer response.Body.Close()
		lines := bufio.NewReader(response.Body)
		for {
			raw, err := lines.ReadBytes('\n') // a line has the data of images, so that it has no bound
			var line struct{ Kind string }
			switch {
			case err == nil:
				err = json.Unmarshal(raw, &line)
			case ctx.Err() == nil:
				err = ErrExportCut
			}
			if !yield(ExportLine{line.Kind, raw}, err) || err != nil || line.Kind == "end" {
				return
			}
		}
	}
}
