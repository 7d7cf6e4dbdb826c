package turnwire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	turnwire "turnwire/clients/go"
)

func TestATurnContinuesWhereItsSocketWasLost(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		if p.number == 1 {
			turn, _ := p.expect("turn.start")["turn"].(string)
			p.starts(turn)
			p.says(turn, "Hello, ")
			return // the socket is lost before the answer to the start
		}
		attach := p.expect("turn.attach")
		for turn, position := range attach["positions"].(map[string]any) {
			if at := position.(map[string]any); at["epoch"] != 7.0 || at["seq"] != 3.0 {
				t.Errorf("the client continues at %v", at)
			}
			p.send(`{"type":"result","id":%q,"result":{"turns":{%q:{"conversation":"c","status":"running","epoch":7,"from":3}}}}`,
				attach["id"], turn)
			p.send(`{"type":"turn.delta","turn":%q,"seq":5,"after":3,"part":0,"text":"you."}`, turn)
			p.completes(turn, 6)
		}
		p.untilClosed()
	}))
	message, err := client.Start(background(t), turnwire.Start{Input: "Hi"}).Wait(background(t))
	if err != nil || message.Text() != "Hello, you." || message.Ended != turnwire.StatusCompleted || message.Conversation != "c" {
		t.Errorf("%+v, %v", message, err)
	}
	if stats := client.Stats(); stats.Openings != 2 || len(stats.Violations) > 0 {
		t.Errorf("%+v", stats)
	}
}

func TestAStartWithoutAnEventIsSentAgainWithItsId(t *testing.T) {
	ids := make(chan any, 3)
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		start := p.expect("turn.start")
		ids <- start["turn"]
		switch p.number {
		case 1:
			return
		case 2: // this instance drains: the start waits for the next one, which going_away announces
			p.send(`{"type":"error","id":%q,"error":{"code":"shutting_down","message":"Down.","retryable":true}}`, start["id"])
			p.send(`{"type":"going_away","reason":"shutdown","deadline_ms":0,"reconnect_after_ms":10}`)
			_ = p.conn.Close(4503, "")
		default:
			p.send(`{"type":"turn.failed","turn":%q,"seq":1,"error":{"code":"upstream_error","message":"No.","retryable":true}}`, start["turn"])
			p.untilClosed()
		}
	}))
	turn := client.Start(background(t), turnwire.Start{Input: "Hi"})
	_, err := turn.Wait(background(t))
	var failed *turnwire.TurnError
	if !errors.As(err, &failed) || turnwire.CodeOf(err) != "upstream_error" || !errors.Is(err, &turnwire.Error{Code: "upstream_error"}) {
		t.Errorf("%v", err)
	}
	for range 3 {
		if id := <-ids; id != turn.ID() {
			t.Errorf("%v was sent, not %v", id, turn.ID())
		}
	}
}

func TestAGapFailsItsTurnAndNoOther(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		broken, whole := p.accept(), p.accept()
		p.says(broken, "x")
		p.send(`{"type":"turn.delta","turn":%q,"seq":9,"part":0,"text":"y"}`, broken)
		if detach := p.expect("turn.detach"); detach["turn"] != broken {
			t.Errorf("%v", detach)
		}
		p.says(whole, "z")
		p.completes(whole, 4)
		p.completes(whole, 5) // a second ending
		p.untilClosed()
	}))
	broken := client.Start(background(t), turnwire.Start{Input: "1"})
	whole := client.Start(background(t), turnwire.Start{Input: "2"})
	message, err := broken.Wait(background(t))
	var violation *turnwire.LawViolation
	if !errors.As(err, &violation) || violation.Law != 1 || message.Text() != "x" || turnwire.CodeOf(err) != turnwire.CodeLawViolation {
		t.Errorf("%+v, %v", message, err)
	}
	if message, err := whole.Wait(background(t)); err != nil || message.Text() != "z" {
		t.Errorf("%+v, %v", message, err)
	}
	eventually(t, "the second ending isn't reported", func() bool { return len(client.Stats().Violations) == 2 })
	if second := client.Stats().Violations[1]; second.Law != 2 || second.Turn != whole.ID() {
		t.Errorf("%v", second)
	}
}

func TestADoneContextCancelsTheTurn(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		turn := p.accept()
		p.says(turn, "Hello")
		cancel := p.expect("turn.cancel")
		if cancel["reason"] != "the user left" || fmt.Sprint(cancel["turns"]) != "["+turn+"]" {
			t.Errorf("%v", cancel)
		}
		p.send(`{"type":"turn.cancelled","turn":%q,"seq":4,"by":"client","reason":"the user left","usage":null,"cost":null,"timing":null}`, turn)
		p.send(`{"type":"result","id":%q,"result":{"turns":{%q:"cancelled"}}}`, cancel["id"], turn)
		p.untilClosed()
	}))
	ctx, cancel := context.WithCancelCause(background(t))
	defer cancel(nil)
	turn := client.Start(ctx, turnwire.Start{Input: "Hi"})
	for text, err := range turn.Text() {
		if text != "Hello" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		cancel(errors.New("the user left"))
	}
	message, err := turn.Wait(background(t))
	if err != nil || message.Text() != "Hello" || message.Ended != turnwire.StatusCancelled || message.Reason != "the user left" {
		t.Errorf("%+v, %v", message, err)
	}
	if outcome, err := turn.Cancel(background(t), ""); outcome != turnwire.OutcomeAlreadyEnded || err != nil {
		t.Errorf("%v, %v", outcome, err)
	}
	// A context that is done already: nothing is sent.
	unsent := client.Start(ctx, turnwire.Start{Input: "Hi"})
	if message, err := unsent.Wait(background(t)); err != nil || message.Ended != turnwire.StatusCancelled {
		t.Errorf("%+v, %v", message, err)
	}
}

func TestAStartThatWaitsForAConnectionCanBeWithdrawn(t *testing.T) {
	client, err := turnwire.New("ws://127.0.0.1:1/ws")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(background(t))
	withdrawn, closed := client.Start(ctx, turnwire.Start{Input: "Hi"}), client.Start(background(t), turnwire.Start{Input: "Hi"})
	cancel()
	if message, err := withdrawn.Wait(background(t)); err != nil || message.Ended != turnwire.StatusCancelled {
		t.Errorf("%+v, %v", message, err)
	}
	_ = client.Close()
	if _, err := closed.Wait(background(t)); !errors.Is(err, turnwire.ErrClosed) {
		t.Errorf("%v", err)
	}
	for _, err := range closed.Events() {
		if !errors.Is(err, turnwire.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	if _, err := client.Start(background(t), turnwire.Start{}).Wait(background(t)); !errors.Is(err, turnwire.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := client.Request(background(t), "ping", nil); !errors.Is(err, turnwire.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestAnAttachmentThatIsDroppedIsMadeAgain(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		turn := p.accept()
		p.says(turn, "Hello")
		p.send(`{"type":"turn.detached","turn":%q,"reason":"too_slow"}`, turn)
		limited := p.expect("turn.attach")
		p.send(`{"type":"error","id":%q,"error":{"code":"rate_limited","message":"Wait.","retryable":true,"retry_after_ms":20}}`, limited["id"])
		attach := p.expect("turn.attach")
		// It is dropped again before the answer.
		p.send(`{"type":"turn.detached","turn":%q,"reason":"too_slow"}`, turn)
		next := make(chan map[string]any, 1)
		go func() { next <- p.next() }()
		select {
		case early := <-next:
			t.Errorf("two attaches at once: %v", early)
		case <-time.After(50 * time.Millisecond):
		}
		p.send(`{"type":"result","id":%q,"result":{"turns":{%q:{"conversation":"c","status":"running","epoch":7,"from":3}}}}`, attach["id"], turn)
		gone := <-next
		p.send(`{"type":"result","id":%q,"result":{"turns":{%q:{"error":{"code":"gone","message":"Gone.","retryable":false,"stored_message":"m_1"}}}}}`,
			gone["id"], turn)
		p.untilClosed()
	}))
	_, err := client.Start(background(t), turnwire.Start{Input: "Hi"}).Wait(background(t))
	var gone *turnwire.Error
	if !errors.As(err, &gone) || gone.Code != "gone" || gone.StoredMessage != "m_1" {
		t.Errorf("%v", err)
	}
}

// The first event was on its way to an attached conversation when the turn was attached from its start.
func TestAFirstEventThatArrivesTwice(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		attach := p.expect("turn.attach")
		p.starts("t")
		p.send(`{"type":"result","id":%q,"result":{"turns":{"t":{"conversation":"c","status":"running","epoch":7,"from":0}}}}`, attach["id"])
		p.starts("t")
		p.says("t", "All.")
		p.completes("t", 4)
		p.untilClosed()
	}))
	message, err := client.Attach(background(t), "t", turnwire.Position{}).Wait(background(t))
	if err != nil || message.Text() != "All." || len(client.Stats().Violations) > 0 {
		t.Errorf("%+v, %v, %v", message, err, client.Stats().Violations)
	}
}

func TestTextOfAnAnswerThatBeginsAgain(t *testing.T) {
	for name, second := range map[string]string{"the same": "Hello, you", "another": "Good day", "a shorter one": "Hello"} {
		client := dial(t, stub(t, func(p *peer) {
			p.send(ready)
			turn := p.accept()
			p.says(turn, "Hello, ")
			time.Sleep(50 * time.Millisecond)
			p.send(`{"type":"turn.reset","turn":%q,"seq":1,"epoch":8,"reason":"again"}`, turn)
			p.says(turn, second)
			p.completes(turn, 4)
			p.untilClosed()
		}))
		turn := client.Start(background(t), turnwire.Start{Input: "Hi"})
		var all strings.Builder
		var last error
		for text, err := range turn.Text() {
			all.WriteString(text)
			last = err
		}
		if same := name == "the same"; same && (all.String() != second || last != nil) || !same && last != turnwire.ErrAnswerReplaced {
			t.Errorf("%s: %q, %v", name, all.String(), last)
		}
		if message, err := turn.Wait(background(t)); err != nil || message.Text() != second || turn.Position() != (turnwire.Position{Epoch: 8, Seq: 4}) {
			t.Errorf("%+v, %v", message, err)
		}
	}
}

func TestATurnThatNobodyReadsSlowsNoOther(t *testing.T) {
	const deltas = 5_000
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		unread, read := p.accept(), p.accept()
		p.says(unread, "x")
		for seq := range deltas {
			p.send(`{"type":"turn.delta","turn":%q,"seq":%d,"part":0,"text":"x"}`, unread, seq+4)
		}
		p.says(read, "done")
		p.completes(read, 4)
		p.completes(unread, deltas+4)
		p.untilClosed()
	}))
	unread := client.Start(background(t), turnwire.Start{Input: "1"})
	read := client.Start(background(t), turnwire.Start{Input: "2"})
	if message, err := read.Wait(background(t)); err != nil || message.Text() != "done" {
		t.Errorf("%+v, %v", message, err)
	}
	<-unread.Done()
	events := 0
	for event := range unread.Events() {
		events++
		if delta, ok := event.(*turnwire.Delta); ok && (len(delta.Text) != deltas+1 || *delta.After != 2 || delta.Seq != deltas+3) {
			t.Errorf("%d bytes of text in %+v", len(delta.Text), delta.EventHead)
		}
	}
	if events != 4 {
		t.Errorf("%d events", events)
	}
}

func TestManyGoroutinesShareOneSocket(t *testing.T) {
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		for range 200 {
			turn := p.expect("turn.start")
			p.send(`{"type":"turn.started","turn":%q,"as":%q,"seq":1,"epoch":7,"status":"running","conversation":"c","model":"m"}`, turn["turn"], turn["as"])
			p.send(`{"type":"turn.part","turn":%q,"as":%q,"seq":2,"part":0,"kind":"text","text":%q}`, turn["turn"], turn["as"], turn["as"])
			p.send(`{"type":"turn.completed","turn":%q,"as":%q,"seq":3,"finish_reason":"stop"}`, turn["turn"], turn["as"])
			p.send(`{"type":"result","as":%q,"id":%q,"result":{}}`, turn["as"], turn["id"])
		}
		p.untilClosed()
	}))
	ctx := background(t)
	var all sync.WaitGroup
	for n := range 200 {
		all.Add(1)
		go func() {
			defer all.Done()
			user := fmt.Sprintf("user%d", n)
			message, err := client.As(user).Start(ctx, turnwire.Start{Turn: "the same id", Input: "Hi"}).Wait(ctx)
			if err != nil || message.Text() != user {
				t.Errorf("%s got %q, %v", user, message.Text(), err)
			}
		}()
	}
	all.Wait()
}

func TestCloseWaitsForTheCancellation(t *testing.T) {
	cancelled := make(chan bool, 1)
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		turn := p.accept()
		cancel := p.expect("turn.cancel")
		p.send(`{"type":"turn.cancelled","turn":%q,"seq":2,"by":"client"}`, turn)
		p.send(`{"type":"result","id":%q,"result":{"turns":{%q:"cancelled"}}}`, cancel["id"], turn)
		cancelled <- true
		if _, _, err := p.conn.Read(context.Background()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("%v", err)
		}
	}))
	ctx, cancel := context.WithCancel(background(t))
	turn := client.Start(ctx, turnwire.Start{Input: "Hi"})
	eventually(t, "the turn doesn't begin", func() bool { return turn.Position().Seq == 1 })
	cancel()
	_ = client.Close()
	if message, err := turn.Wait(background(t)); err != nil || message.Ended != turnwire.StatusCancelled || !<-cancelled {
		t.Errorf("%+v, %v", message, err)
	}
}

func TestADoneContextEndsATurnWhoseGatewayIsSilent(t *testing.T) {
	t.Parallel()
	client := dial(t, stub(t, func(p *peer) {
		p.send(ready)
		p.accept()
		p.untilClosed()
	}))
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(background(t))
	turn := client.Start(ctx, turnwire.Start{Input: "Hi"})
	followed := client.Attach(ctx, "another", turnwire.Position{Epoch: 1, Seq: 9})
	cancel(cause)
	for _, one := range []*turnwire.Turn{turn, followed} {
		if _, err := one.Wait(background(t)); !errors.Is(err, cause) {
			t.Errorf("%v", err)
		}
	}
	// The wait has a context of its own.
	waiting := client.Start(background(t), turnwire.Start{Input: "Hi"})
	if message, err := waiting.Wait(ctx); !errors.Is(err, context.Canceled) || message.Ended != "" {
		t.Errorf("%+v, %v", message, err)
	}
}
