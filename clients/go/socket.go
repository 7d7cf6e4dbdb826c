package turnwire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"turnwire/clients/go/internal/msgpack"
)

// socket is an open WebSocket. Frames are written by a goroutine of its own.
type socket struct {
	conn       *websocket.Conn
	codec      Codec
	frameBytes int

	mu      sync.Mutex
	waiting [][]byte
	wake    chan struct{}
}

// send queues a frame. It fails if the gateway would close the socket because of it.
func (s *socket) send(frame []byte) error {
	var err error
	if s.codec == MessagePack {
		if frame, err = msgpack.FromJSON(frame); err != nil {
			return invalidFields(err)
		}
	}
	if len(frame) > s.frameBytes {
		return &Error{Code: "too_large", Message: fmt.Sprintf(
			"The request has %d bytes, and a frame may have %d. Shorten it, or send it over HTTP.", len(frame), s.frameBytes)}
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, frame)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// close closes the socket for good. A peer that doesn't answer the close isn't waited for.
func (s *socket) close() {
	impatient := time.AfterFunc(time.Second, func() { _ = s.conn.CloseNow() })
	defer impatient.Stop()
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
}

// write writes the queued frames until ctx is done.
func (s *socket) write(ctx context.Context) error {
	kind := websocket.MessageText
	if s.codec == MessagePack {
		kind = websocket.MessageBinary
	}
	for {
		s.mu.Lock()
		waiting := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		for _, frame := range waiting {
			if err := s.conn.Write(ctx, kind, frame); err != nil {
				return err
			}
		}
		if len(waiting) > 0 {
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errUndecodable = errors.New("the gateway sent a frame that can't be decoded")

// read returns the next frame as JSON.
func (s *socket) read(ctx context.Context) ([]byte, error) {
	kind, data, err := s.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if (kind == websocket.MessageBinary) != (s.codec == MessagePack) {
		return nil, errUndecodable
	}
	if s.codec == MessagePack {
		if data, err = msgpack.ToJSON(data); err != nil {
			return nil, fmt.Errorf("%w: %w", errUndecodable, err)
		}
	}
	return data, nil
}
