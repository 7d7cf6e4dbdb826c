package turnwire_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	turnwire "turnwire/clients/go"
)

func TestAddressesThatAreNoGateway(t *testing.T) {
	answer := func(status int, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	plain := answer(200, "<html>")
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err == nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
		}
	}))
	t.Cleanup(foreign.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	for name, one := range map[string]struct{ url, code, says string }{
		"not a URL":            {"://", turnwire.CodeInvalidURL, "ws://127.0.0.1:8000/ws"},
		"another scheme":       {"ftp://127.0.0.1/ws", turnwire.CodeInvalidURL, "ws, wss, http or https"},
		"no host":              {"ws:///ws", turnwire.CodeInvalidURL, "names no host"},
		"a control character":  {"ws://a\x00b/ws", turnwire.CodeInvalidURL, "isn't a URL"},
		"nobody":               {"ws://" + listener.Addr().String(), turnwire.CodeUnreachable, "refused"},
		"a page":               {plain, turnwire.CodeNotAGateway, "HTTP 200"},
		"no page":              {answer(404, "no"), turnwire.CodeNotAGateway, "HTTP 404"},
		"a proxy":              {answer(502, "no"), turnwire.CodeUnreachable, "HTTP 502"},
		"another WebSocket":    {foreign.URL, turnwire.CodeNotAGateway, "without the protocol"},
		"no TLS":               {strings.Replace(plain, "http:", "wss:", 1), turnwire.CodeNotAGateway, "doesn't speak TLS"},
		"a foreign authority":  {secure.URL, turnwire.CodeUntrusted, "isn't trusted"},
		"a refusal":            {answer(403, `{"error":{"code":"forbidden","message":"The Host isn't allowed.","retryable":false}}`), "forbidden", "Host"},
		"another protocol":     {answer(400, `{"error":{"code":"invalid_request","message":"None.","retryable":false},"subprotocols":["turnwire.v9.json"]}`), turnwire.CodeProtocol, "turnwire.v9.json"},
		"not JSON":             {stub(t, func(p *peer) { p.send("hello") }), turnwire.CodeNotAGateway, "first frame"},
		"another first frame":  {stub(t, func(p *peer) { p.send(`{"type":"hello"}`) }), turnwire.CodeNotAGateway, "first frame"},
		"a later protocol":     {stub(t, func(p *peer) { p.send(strings.Replace(ready, "v1", "v2", 1)) }), turnwire.CodeProtocol, `"turnwire.v2"`},
		"a refused credential": {stub(t, func(p *peer) { _ = p.conn.Close(4401, "") }), "unauthenticated", "credential"},
	} {
		client, err := turnwire.Dial(background(t), one.url)
		if client != nil || turnwire.CodeOf(err) != one.code || !strings.Contains(err.Error(), one.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = turnwire.Dial(background(t), secure.URL)
	var authority x509.UnknownAuthorityError
	var dialed *turnwire.DialError
	if !errors.As(err, &authority) || !errors.As(err, &dialed) {
		t.Errorf("%v has no x509.UnknownAuthorityError", err)
	}
	if _, err := turnwire.New(plain, turnwire.WithCodec("xml")); err == nil {
		t.Error("an unknown codec is accepted")
	}
}

func TestDialWaitsForAGatewayThatRestarts(t *testing.T) {
	var asked atomic.Int32
	url := stub(t, func(p *peer) { p.send(ready); p.untilClosed() })
	slow := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == -9_990 {
			<-slow
		}
		if asked.Load() < 3 {
			w.WriteHeader(503)
			_, _ = w.Write([]byte(`{"error":{"code":"shutting_down","message":"Down.","retryable":true,"retry_after_ms":10}}`))
			return
		}
		http.Redirect(w, r, strings.Replace(url, "ws:", "http:", 1), http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(slow) })
	dial(t, server.URL)
	ctx, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	asked.Store(-10_000)
	if _, err := turnwire.Dial(ctx, server.URL); !errors.Is(err, context.DeadlineExceeded) || turnwire.CodeOf(err) != "shutting_down" {
		t.Errorf("%v", err)
	}
}

func TestAnExpiredCredentialIsRenewed(t *testing.T) {
	var tokens atomic.Int32
	source := func(context.Context) (string, error) {
		return map[int32]string{1: "first", 2: "second", 3: "third"}[tokens.Add(1)], nil
	}
	client := dial(t, stub(t, func(p *peer) {
		given := p.request.Header.Get("Authorization")
		switch p.number {
		case 1: // it expires while the socket is open
			p.send(ready)
			p.send(`{"type":"auth.expiring","expires_at":"2026-01-01T00:00:00.000Z"}`)
			auth := p.expect("auth")
			if given != "Bearer first" || auth["token"] != "second" {
				t.Errorf("%s, then %v", given, auth)
			}
			p.send(`{"type":"result","id":%q,"result":{"user":"ann"}}`, auth["id"])
			_ = p.conn.Close(4401, "") // it expired while the computer slept
		case 2:
			if given != "Bearer third" {
				t.Errorf("%s", given)
			}
			p.send(ready)
			ping := p.expect("ping")
			p.send(`{"type":"result","id":%q,"result":{"t":1}}`, ping["id"])
			_ = p.conn.Close(4401, "")
		default:
			_ = p.conn.Close(4401, "")
		}
	}), turnwire.WithTokenSource(source))
	eventually(t, "there is no second socket", func() bool { return client.Stats().Openings == 2 })
	if _, err := client.Request(background(t), "ping", nil); err != nil {
		t.Error(err)
	}
	// A fresh credential is refused as well, so that the client gives up.
	_, err := client.Start(background(t), turnwire.Start{Input: "Hi"}).Wait(background(t))
	var closed *turnwire.CloseError
	if !errors.As(err, &closed) || closed.Code != 4401 || turnwire.CodeOf(err) != "unauthenticated" {
		t.Errorf("%v", err)
	}
}

// What is wrong with a credential is said in the same words over both transports, and isn't taken for the network's fault.
func TestCredentialsThatCantBeSent(t *testing.T) {
	vault := errors.New("no vault")
	url := stub(t, func(p *peer) { p.send(ready); p.untilClosed() })
	for _, transport := range []turnwire.Transport{turnwire.Socket, turnwire.HTTP} {
		dialWith := func(source turnwire.TokenSource) error {
			_, err := turnwire.Dial(background(t), url, turnwire.WithTransport(transport), turnwire.WithTokenSource(source))
			return err
		}
		broken := dialWith(func(context.Context) (string, error) { return "from a file\n", nil })
		if turnwire.CodeOf(broken) != "unauthenticated" || !strings.Contains(broken.Error(), "line break") {
			t.Errorf("%s: %v", transport, broken)
		}
		if err := dialWith(func(context.Context) (string, error) { return "", vault }); err != vault {
			t.Errorf("%s: %v", transport, err)
		}
		var panicked *turnwire.PanicError
		err := dialWith(func(context.Context) (string, error) { panic("oops") })
		if !errors.As(err, &panicked) || strings.Contains(err.Error(), "reached") {
			t.Errorf("%s: %v", transport, err)
		}
	}
}

// A refusal is a *DialError over HTTP, too.
func TestARefusalOverHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		_, _ = w.Write([]byte(`{"error":{"code":"forbidden","message":"The Host isn't allowed.","retryable":false}}`))
	}))
	t.Cleanup(server.Close)
	_, err := turnwire.Dial(background(t), server.URL, turnwire.WithTransport(turnwire.HTTP))
	var dialed *turnwire.DialError
	if !errors.As(err, &dialed) || dialed.Status != 403 || turnwire.CodeOf(err) != "forbidden" {
		t.Errorf("%v", err)
	}
}

// A start that is too large for a frame is sent again, like one that isn't, if the network fails or the instance drains.
func TestALargeStartIsSentAgain(t *testing.T) {
	url := stub(t, func(p *peer) {
		p.send(ready)
		attach := p.expect("turn.attach")
		for turn := range attach["positions"].(map[string]any) {
			p.starts(turn)
			p.send(`{"type":"turn.completed","turn":%q,"seq":2,"finish_reason":"stop"}`, turn)
		}
		p.untilClosed()
	})
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/ws") {
			http.Redirect(w, r, strings.Replace(url, "ws:", "http:", 1), http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		switch asked.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(503)
			_, _ = w.Write([]byte(`{"error":{"code":"shutting_down","message":"Down.","retryable":true}}`))
		default:
			w.WriteHeader(202)
			_, _ = w.Write([]byte(`{"conversation":"c","status":"running"}`))
		}
	}))
	t.Cleanup(server.Close)
	turn := dial(t, server.URL).Start(background(t), turnwire.Start{Input: strings.Repeat("x", 70_000)})
	if message, err := turn.Wait(background(t)); err != nil || message.Conversation != "c" || asked.Load() != 3 {
		t.Errorf("%+v, %v, %d", message, err, asked.Load())
	}
}

// However the connection of an export ends before its last line, the error is ErrExportCut.
func TestAnExportThatIsCut(t *testing.T) {
	url := stub(t, func(p *peer) { p.send(ready); p.untilClosed() })
	for _, linger := range []int{-1, 0} { // an end, and a reset
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/ws") {
				http.Redirect(w, r, strings.Replace(url, "ws:", "http:", 1), http.StatusTemporaryRedirect)
				return
			}
			_, _ = w.Write([]byte("{\"kind\":\"user\"}\n{\"kind\":"))
			_ = http.NewResponseController(w).Flush()
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(50 * time.Millisecond)
			_ = conn.(*net.TCPConn).SetLinger(linger)
			_ = conn.Close()
		}))
		client := dial(t, server.URL)
		var last error
		lines := 0
		for line, err := range client.Export(background(t), "") {
			if last = err; err == nil && line.Kind == "user" {
				lines++
			}
		}
		if lines != 1 || last != turnwire.ErrExportCut {
			t.Errorf("%d lines, %v", lines, last)
		}
		server.Close()
		for _, err := range client.Export(background(t), "") {
			if turnwire.CodeOf(err) != turnwire.CodeUnreachable {
				t.Errorf("%v", err)
			}
		}
	}
}

func TestAPanicInAFunctionOfTheProgram(t *testing.T) {
	url := stub(t, func(p *peer) {
		p.send(ready)
		p.send(`{"type":"durability","state":"degraded"}`)
		p.send(`{"type":"durability","state":"ok"}`)
		ping := p.expect("ping")
		p.send(`{"type":"result","id":%q,"result":{"t":1}}`, ping["id"])
		p.untilClosed()
	})
	_, err := turnwire.Dial(background(t), url, turnwire.WithTokenSource(func(context.Context) (string, error) { panic("oops") }))
	var panicked *turnwire.PanicError
	if !errors.As(err, &panicked) || panicked.Value != "oops" || !strings.Contains(err.Error(), "token source") {
		t.Errorf("%v", err)
	}
	notices := make(chan string, 2)
	client := dial(t, url, turnwire.WithNoticeHandler(func(notice turnwire.Notice) {
		notices <- string(notice.Raw)
		panic("oops")
	}), turnwire.WithStateHandler(func(turnwire.State) { panic("oops") }))
	if _, err := client.Request(background(t), "ping", nil); err != nil {
		t.Error(err)
	}
	if first, second := <-notices, <-notices; !strings.Contains(first, "degraded") || !strings.Contains(second, "ok") {
		t.Errorf("%s, %s", first, second)
	}
	if _, err := client.Request(background(t), "ping", map[string]any{"t": func() {}}); turnwire.CodeOf(err) != "invalid_request" {
		t.Errorf("%v", err)
	}
	if _, err := client.Request(background(t), "ping", map[string]any{"t": strings.Repeat("x", 70_000)}); turnwire.CodeOf(err) != "too_large" {
		t.Errorf("%v", err)
	}
}

func TestAnswers(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		// What a later version may send.
		p.send(`{"type":"later","id":5,"turn":["x"],"seq":"y"}`)
		p.send(`{"type":"result","id":"99","result":{}}`)
		p.send(`{"type":"turn.later","turn":"unknown","seq":1}`)
		first, second, third := p.next(), p.next(), p.next()
		p.send(`{"type":"result.piece","id":%q,"text":"{\"models\":"}`, first["id"])
		p.send(`{"type":"error","id":%q,"error":{"code":"not_found","message":"No.","retryable":false,"path":"turn","new":1},"new":2}`, second["id"])
		p.send(`{"type":"result.piece","id":%q,"text":"[]}"}`, first["id"])
		p.send(`{"type":"result","id":%q,"pieces":2}`, first["id"])
		p.send(`{"type":"result.piece","id":%q,"text":"{"}`, third["id"])
		p.send(`{"type":"result","id":%q,"pieces":2}`, third["id"])
		p.expect("conversation.create")
		_ = p.conn.Close(4503, "")
	}))
	type answered struct {
		result string
		err    error
	}
	answers := make([]chan answered, 3)
	for i, kind := range []string{"models.list", "turn.get", "usage.get"} {
		answers[i] = make(chan answered, 1)
		go func() {
			result, err := client.Request(background(t), kind, nil)
			answers[i] <- answered{string(result), err}
		}()
		time.Sleep(20 * time.Millisecond)
	}
	if got := <-answers[0]; got.result != `{"models":[]}` || got.err != nil {
		t.Errorf("%v", got)
	}
	var refused *turnwire.Error
	if got := <-answers[1]; !errors.As(got.err, &refused) || refused.Code != "not_found" || refused.Path != "turn" {
		t.Errorf("%v", got)
	}
	if got := <-answers[2]; turnwire.CodeOf(got.err) != "internal" {
		t.Errorf("%v", got)
	}
	// A request that can't be repeated.
	if _, err := client.Request(background(t), "conversation.create", map[string]any{"title": "x"}); turnwire.CodeOf(err) != turnwire.CodeConnectionLost {
		t.Errorf("%v", err)
	}
}

func TestASilentSocketIsReplaced(t *testing.T) {
	t.Parallel()
	var losses atomic.Int32
	client := dial(t, stub(t, func(p *peer) {
		p.send(strings.Replace(ready, `:15,`, `:0.05,`, 1))
		if p.number > 1 {
			for range 60 {
				p.send(`{"type":"heartbeat","t":1}`)
				time.Sleep(20 * time.Millisecond)
			}
		}
		p.untilClosed()
	}), turnwire.WithStateHandler(func(state turnwire.State) {
		if state.Name == "waiting" {
			losses.Add(1)
		}
	}))
	eventually(t, "the silent socket stays", func() bool { return client.Stats().Openings == 2 })
	time.Sleep(300 * time.Millisecond)
	if losses.Load() != 1 {
		t.Errorf("%d sockets were lost", losses.Load())
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	play := func(p *peer) {
		p.send(ready)
		p.send(`{"type":"auth.expiring","expires_at":"x"}`)
		for p.next() != nil {
			p.send(`{"type":"conversations.changed"}`)
		}
	}
	url := stub(t, play)
	transport := &http.Transport{}
	before := runtime.NumGoroutine()
	for range 5 {
		client := dial(t, url, turnwire.WithHTTPClient(&http.Client{Transport: transport}),
			turnwire.WithNoticeHandler(func(turnwire.Notice) {}),
			turnwire.WithTokenSource(func(context.Context) (string, error) { return "token", nil }))
		ctx, cancel := context.WithCancel(background(t))
		for range 20 {
			turn := client.Start(ctx, turnwire.Start{Input: "Hi"})
			go func() {
				for range turn.Events() {
				}
			}()
			go func() { _, _ = client.Request(ctx, "ping", nil) }()
		}
		time.Sleep(10 * time.Millisecond)
		_ = client.Close()
		_ = client.Close()
		cancel()
	}
	transport.CloseIdleConnections()
	eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before+2 })
}
