package turnwire_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	turnwire "turnwire/clients/go"
)

const ready = `{"type":"ready","protocol":"turnwire.v1","user":"ann","heartbeat_s":15,"limits":{"frame_bytes":65536}}`

// peer is the gateway's side of a socket, which a test plays. It stands for a gateway that does what a real one doesn't.
type peer struct {
	t       *testing.T
	conn    *websocket.Conn
	request *http.Request
	number  int
}

func (p *peer) send(format string, values ...any) {
	frame := format
	if len(values) > 0 {
		frame = fmt.Sprintf(format, values...)
	}
	_ = p.conn.Write(context.Background(), websocket.MessageText, []byte(frame))
}

// next returns the next frame of the client; nil after the socket's end.
func (p *peer) next() map[string]any {
	ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	_, data, err := p.conn.Read(ctx)
	if err != nil {
		return nil
	}
	var frame map[string]any
	if err := json.Unmarshal(data, &frame); err != nil {
		p.t.Errorf("not JSON: %s", data)
	}
	return frame
}

// expect returns the next frame of the client, which must have this type.
func (p *peer) expect(kind string) map[string]any {
	p.t.Helper()
	frame := p.next()
	if frame["type"] != kind {
		p.t.Errorf("the client sent %v, not %s", frame, kind)
	}
	return frame
}

// accept answers a turn.start, and sends turn.started.
func (p *peer) accept() (turn string) {
	p.t.Helper()
	start := p.expect("turn.start")
	turn, _ = start["turn"].(string)
	p.starts(turn)
	p.send(`{"type":"result","id":%q,"result":{"turn":%q,"conversation":"c","status":"running","epoch":7}}`, start["id"], turn)
	return turn
}

func (p *peer) starts(turn string) {
	p.send(`{"type":"turn.started","turn":%q,"seq":1,"epoch":7,"status":"running","conversation":"c","model":"m","message":"a"}`, turn)
}

// says begins a part of text.
func (p *peer) says(turn, text string) {
	p.send(`{"type":"turn.part","turn":%q,"seq":2,"part":0,"kind":"text"}`, turn)
	p.send(`{"type":"turn.delta","turn":%q,"seq":3,"part":0,"text":%q}`, turn, text)
}

func (p *peer) completes(turn string, seq int) {
	p.send(`{"type":"turn.completed","turn":%q,"seq":%d,"finish_reason":"stop","usage":null,"cost":null,"timing":null,"message":"a"}`,
		turn, seq)
}

func (p *peer) untilClosed() {
	for p.next() != nil {
	}
}

// stub serves sockets with a function for each. It returns the URL.
func stub(t *testing.T, play func(*peer)) string {
	t.Helper()
	var sockets atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"turnwire.v1.json"}})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(1 << 20)
		play(&peer{t, conn, r, int(sockets.Add(1))})
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"
}

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), 15*time.Second)
	t.Cleanup(done)
	return ctx
}

func dial(t *testing.T, url string, options ...turnwire.Option) *turnwire.Client {
	t.Helper()
	client, err := turnwire.Dial(background(t), url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
