package turnwire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
)

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
