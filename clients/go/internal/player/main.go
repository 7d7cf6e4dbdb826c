// Command player runs the cases of tests/client_cases: it reads commands from standard input, one JSON object per line,
// carries them out with this package, and writes answers and events to standard output.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	turnwire "turnwire/clients/go"
)

const connectTimeout = 15 * time.Second

type command struct {
	ID        json.RawMessage `json:"id"`
	Do        string          `json:"do"`
	As        string          `json:"as"`
	On        string          `json:"on"`
	URL       string          `json:"url"`
	Codec     string          `json:"codec"`
	Transport string          `json:"transport"`
	TokenURL  *string         `json:"token_url"`
	Fields    map[string]any  `json:"fields"`
	User      *string         `json:"user"`
	Read      string          `json:"read"`
	Turn      string          `json:"turn"`
	Reason    *string         `json:"reason"`
	Type      string          `json:"type"`
}

// player has the connections and turns that the commands have named.
type player struct {
	mu      sync.Mutex
	clients map[string]*turnwire.Client
	turns   map[string]*turnwire.Turn
	aborts  map[string]context.CancelCauseFunc
	out     *json.Encoder
	reading sync.WaitGroup
}

func main() {
	p := &player{
		clients: map[string]*turnwire.Client{}, turns: map[string]*turnwire.Turn{},
		aborts: map[string]context.CancelCauseFunc{}, out: json.NewEncoder(os.Stdout),
	}
	p.out.SetEscapeHTML(false)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, "player: not a command:", err)
			os.Exit(1)
		}
		if c.Do == "exit" {
			p.write(map[string]any{"id": c.ID, "ok": map[string]any{}})
			break
		}
		// What names something is done in order; what waits for the gateway isn't waited for.
		answer := p.begin(c)
		go func() {
			ok, err := answer()
			if err != nil {
				p.write(map[string]any{"id": c.ID, "error": map[string]any{"code": codeOf(err), "message": messageOf(err)}})
				return
			}
			p.write(map[string]any{"id": c.ID, "ok": ok})
		}()
	}
	p.mu.Lock()
	clients := p.clients
	p.clients = nil
	p.mu.Unlock()
	for _, client := range clients {
		_ = client.Close()
	}
	p.reading.Wait()
}

func codeOf(err error) any {
	if code := turnwire.CodeOf(err); code != "" {
		return code
	}
	return nil
}

func messageOf(err error) string {
	var coded *turnwire.Error
	if errors.As(err, &coded) {
		return coded.Message
	}
	return err.Error()
}

func (p *player) write(line any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(line)
}

// begin carries out what a command does at once, and returns a function that waits for the answer.
func (p *player) begin(c command) func() (any, error) {
	none := map[string]any{}
	answered := func(ok any, err error) func() (any, error) { return func() (any, error) { return ok, err } }
	p.mu.Lock()
	client, turn, abort := p.clients[c.On], p.turns[c.Turn], p.aborts[c.Turn]
	p.mu.Unlock()
	switch c.Do {
	case "connect":
		return func() (any, error) { return none, p.connect(c) }
	case "read":
		p.read(c.Turn, turn)
		return answered(none, nil)
	case "abort":
		if abort == nil {
			return answered(nil, fmt.Errorf("no turn %q", c.Turn))
		}
		if c.Reason != nil && *c.Reason != "" {
			abort(fmt.Errorf("%s", *c.Reason))
		} else {
			abort(nil)
		}
		return answered(none, nil)
	}
	if client == nil {
		return answered(nil, fmt.Errorf("no connection %q", c.On))
	}
	switch c.Do {
	case "start":
		ctx, abort := context.WithCancelCause(context.Background())
		if c.User != nil {
			client = client.As(*c.User)
		}
		started := client.Start(ctx, turnwire.Start{Fields: c.Fields})
		p.name(c.As, started, abort)
		if c.Read != "later" {
			p.read(c.As, started)
		}
		return answered(map[string]any{"turn": started.ID()}, nil)
	case "attach":
		if c.User != nil {
			client = client.As(*c.User)
		}
		followed := client.Attach(context.Background(), c.Turn, turnwire.Position{})
		p.name(c.As, followed, nil)
		if c.Read != "later" {
			p.read(c.As, followed)
		}
		return answered(none, nil)
	case "cancel":
		reason := ""
		if c.Reason != nil {
			reason = *c.Reason
		}
		return func() (any, error) {
			outcome, err := turn.Cancel(context.Background(), reason)
			return map[string]any{"outcome": outcome}, err
		}
	case "request":
		if c.User != nil {
			client = client.As(*c.User)
		}
		return func() (any, error) { return client.Request(context.Background(), c.Type, c.Fields) }
	case "state":
		stats := client.Stats()
		violations := make([]string, len(stats.Violations))
		for i, violation := range stats.Violations {
			violations[i] = violation.Error()
		}
		return answered(map[string]any{"transport": stats.Transport, "openings": stats.Openings, "violations": violations}, nil)
	case "close":
		return func() (any, error) { return none, client.Close() }
	}
	return answered(nil, fmt.Errorf("no command %q", c.Do))
}

func (p *player) name(name string, turn *turnwire.Turn, abort context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns[name], p.aborts[name] = turn, abort
}

func (p *player) connect(c command) error {
	options := []turnwire.Option{}
	if c.Codec != "" {
		options = append(options, turnwire.WithCodec(turnwire.Codec(c.Codec)))
	}
	if c.Transport != "" {
		options = append(options, turnwire.WithTransport(turnwire.Transport(c.Transport)))
	}
	if c.TokenURL != nil {
		options = append(options, turnwire.WithTokenSource(func(ctx context.Context) (string, error) {
			return fetch(ctx, *c.TokenURL)
		}))
	}
	ctx, done := context.WithTimeout(context.Background(), connectTimeout)
	defer done()
	client, err := turnwire.Dial(ctx, c.URL, options...)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c.As] = client
	return nil
}

func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	token, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d", response.StatusCode)
	}
	return string(token), err
}

// read writes a turn's events and its end, on a goroutine of its own.
func (p *player) read(name string, turn *turnwire.Turn) {
	p.reading.Add(1)
	go func() {
		defer p.reading.Done()
		for event, err := range turn.Events() {
			if err == nil {
				p.write(map[string]any{"turn": name, "event": event})
			}
		}
		message, err := turn.Wait(context.Background())
		end := map[string]any{"status": turn.Status(), "text": message.Text(), "error": nil}
		if err != nil {
			end["error"] = codeOf(err)
		}
		p.write(map[string]any{"turn": name, "end": end})
	}()
}
