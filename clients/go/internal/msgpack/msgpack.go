// Package msgpack converts between JSON and the part of MessagePack that the protocol uses: maps with text keys, lists,
// texts, finite numbers, booleans and nil. It has neither bin nor ext.
package msgpack

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// depthMax is more than the 32 levels of the protocol.
const depthMax = 100

var errTruncated = errors.New("msgpack: the value is truncated")

// FromJSON returns a JSON value as MessagePack.
func FromJSON(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("msgpack: more text follows the JSON value")
	}
	return appendValue(make([]byte, 0, len(text)), value)
}

func appendValue(out []byte, value any) ([]byte, error) {
	var err error
	switch value := value.(type) {
	case nil:
		return append(out, 0xc0), nil
	case bool:
		if value {
			return append(out, 0xc3), nil
		}
		return append(out, 0xc2), nil
	case json.Number:
		return appendNumber(out, value)
	case string:
		return appendText(out, value), nil
	case []any:
		out = appendSize(out, len(value), 0x90, 0xdc)
		for _, item := range value {
			if out, err = appendValue(out, item); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out = appendSize(out, len(value), 0x80, 0xde)
		for key, item := range value {
			if out, err = appendValue(appendText(out, key), item); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("msgpack: a %T can't be encoded", value)
}

// appendSize appends the head of a list or a map. The head of one with 16 bits of size is `sized`, with 32 bits the next.
func appendSize(out []byte, size int, small, sized byte) []byte {
	switch {
	case size < 16:
		return append(out, small|byte(size))
	case size <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(out, sized), uint16(size))
	}
	return binary.BigEndian.AppendUint32(append(out, sized+1), uint32(size))
}

func appendText(out []byte, text string) []byte {
	switch size := len(text); {
	case size < 32:
		out = append(out, 0xa0|byte(size))
	case size <= math.MaxUint8:
		out = append(out, 0xd9, byte(size))
	case size <= math.MaxUint16:
		out = binary.BigEndian.AppendUint16(append(out, 0xda), uint16(size))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(size))
	}
	return append(out, text...)
}

func appendNumber(out []byte, number json.Number) ([]byte, error) {
	if integer, err := strconv.ParseInt(number.String(), 10, 64); err == nil {
		switch {
		case integer >= 0 && integer < 128, integer < 0 && integer >= -32:
			return append(out, byte(integer)), nil
		case integer >= math.MinInt32 && integer <= math.MaxInt32:
			return binary.BigEndian.AppendUint32(append(out, 0xd2), uint32(int32(integer))), nil
		}
		return binary.BigEndian.AppendUint64(append(out, 0xd3), uint64(integer)), nil
	}
	if integer, err := strconv.ParseUint(number.String(), 10, 64); err == nil {
		return binary.BigEndian.AppendUint64(append(out, 0xcf), integer), nil
	}
	float, err := number.Float64()
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(append(out, 0xcb), math.Float64bits(float)), nil
}

// ToJSON returns exactly one MessagePack value as JSON. It fails if the value is truncated or followed by more bytes, if a
// text isn't UTF-8 or a key isn't a text, and for types that aren't part of the protocol.
func ToJSON(data []byte) ([]byte, error) {
	read := reader{rest: data, out: make([]byte, 0, len(data)+len(data)/4)}
	if err := read.value(0); err != nil {
		return nil, err
	}
	if len(read.rest) > 0 {
		return nil, fmt.Errorf("msgpack: %d bytes follow the value", len(read.rest))
	}
	return read.out, nil
}

// reader takes MessagePack from rest, and appends JSON to out.
type reader struct {
	rest []byte
	out  []byte
}

func (r *reader) take(size uint64) ([]byte, error) {
	if uint64(len(r.rest)) < size {
		return nil, errTruncated
	}
	taken := r.rest[:size]
	r.rest = r.rest[size:]
	return taken, nil
}

// number takes a big-endian integer of this number of bytes.
func (r *reader) number(size uint64) (uint64, error) {
	taken, err := r.take(size)
	var number uint64
	for _, one := range taken {
		number = number<<8 | uint64(one)
	}
	return number, err
}

func (r *reader) value(depth int) error {
	if depth > depthMax {
		return errors.New("msgpack: the value is nested too deep")
	}
	tag, err := r.number(1)
	if err != nil {
		return err
	}
	switch {
	case tag < 0x80:
		r.out = strconv.AppendUint(r.out, tag, 10)
	case tag < 0x90:
		return r.pairs(tag&0x0f, depth)
	case tag < 0xa0:
		return r.items(tag&0x0f, depth)
	case tag < 0xc0:
		return r.text(tag & 0x1f)
	case tag >= 0xe0:
		r.out = strconv.AppendInt(r.out, int64(int8(tag)), 10)
	case tag == 0xc0:
		r.out = append(r.out, "null"...)
	case tag == 0xc2:
		r.out = append(r.out, "false"...)
	case tag == 0xc3:
		r.out = append(r.out, "true"...)
	default:
		return r.sized(tag, depth)
	}
	return nil
}

// sized reads a value whose tag is followed by a number.
func (r *reader) sized(tag uint64, depth int) error {
	var size uint64
	switch tag {
	case 0xcc, 0xd0, 0xd9:
		size = 1
	case 0xcd, 0xd1, 0xda, 0xdc, 0xde:
		size = 2
	case 0xca, 0xce, 0xd2, 0xdb, 0xdd, 0xdf:
		size = 4
	case 0xcb, 0xcf, 0xd3:
		size = 8
	default:
		return fmt.Errorf("msgpack: the type 0x%02x isn't part of the protocol", tag)
	}
	number, err := r.number(size)
	if err != nil {
		return err
	}
	switch tag {
	case 0xca:
		return r.float(float64(math.Float32frombits(uint32(number))))
	case 0xcb:
		return r.float(math.Float64frombits(number))
	case 0xd0, 0xd1, 0xd2, 0xd3:
		unused := 64 - 8*size
		r.out = strconv.AppendInt(r.out, int64(number<<unused)>>unused, 10)
	case 0xd9, 0xda, 0xdb:
		return r.text(number)
	case 0xdc, 0xdd:
		return r.items(number, depth)
	case 0xde, 0xdf:
		return r.pairs(number, depth)
	default:
		r.out = strconv.AppendUint(r.out, number, 10)
	}
	return nil
}

func (r *reader) float(number float64) error {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return errors.New("msgpack: a number isn't finite")
	}
	r.out = strconv.AppendFloat(r.out, number, 'g', -1, 64)
	return nil
}

func (r *reader) text(size uint64) error {
	taken, err := r.take(size)
	if err != nil {
		return err
	}
	if !utf8.Valid(taken) {
		return errors.New("msgpack: a text isn't UTF-8")
	}
	r.out = append(r.out, '"')
	for _, char := range taken {
		switch {
		case char == '"' || char == '\\':
			r.out = append(r.out, '\\', char)
		case char < 0x20:
			r.out = fmt.Appendf(r.out, `\u%04x`, char)
		default:
			r.out = append(r.out, char)
		}
	}
	r.out = append(r.out, '"')
	return nil
}

func (r *reader) items(size uint64, depth int) error {
	r.out = append(r.out, '[')
	for i := range size {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		if err := r.value(depth + 1); err != nil {
			return err
		}
	}
	r.out = append(r.out, ']')
	return nil
}

func (r *reader) pairs(size uint64, depth int) error {
	r.out = append(r.out, '{')
	for i := range size {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		if len(r.rest) > 0 && (r.rest[0] < 0xa0 || r.rest[0] > 0xbf) && (r.rest[0] < 0xd9 || r.rest[0] > 0xdb) {
			return errors.New("msgpack: a key isn't a text")
		}
		if err := r.value(depth + 1); err != nil {
			return err
		}
		r.out = append(r.out, ':')
		if err := r.value(depth + 1); err != nil {
			return err
		}
	}
	r.out = append(r.out, '}')
	return nil
}
