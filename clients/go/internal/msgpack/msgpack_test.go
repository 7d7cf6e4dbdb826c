package msgpack

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestEveryValueOfTheProtocolSurvives(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `false`, `0`, `127`, `128`, `-1`, `-32`, `-33`, `2147483648`, `-2147483649`, `9007199254740991`,
		`18446744073709551615`, `-9223372036854775808`, `1.5`, `-1e300`, `""`, `"ü€😀\u0000\n\"\\"`, `[]`, `{}`,
		`{"a":[1,{"b":null}],"c":"` + strings.Repeat("x", 40) + `"}`,
		`"` + strings.Repeat("y", 300) + `"`, `"` + strings.Repeat("z", 70_000) + `"`,
		`[` + strings.Repeat("1,", 20) + `1]`, `[` + strings.Repeat("1,", 70_000) + `1]`,
	} {
		packed, err := FromJSON([]byte(text))
		if err != nil {
			t.Fatalf("%.40s: %v", text, err)
		}
		unpacked, err := ToJSON(packed)
		if err != nil {
			t.Fatalf("%.40s: %v", text, err)
		}
		var sent, got any
		_ = json.Unmarshal([]byte(text), &sent)
		if err := json.Unmarshal(unpacked, &got); err != nil || !reflect.DeepEqual(sent, got) {
			t.Errorf("%.40s became %.40s (%v)", text, unpacked, err)
		}
	}
}

func TestForeignBytesAreRefused(t *testing.T) {
	for name, data := range map[string]string{
		"nothing": "", "truncated text": "\xa5ab", "truncated list": "\x92\x01", "a huge list": "\xdd\xff\xff\xff\xff",
		"bin": "\xc4\x01a", "ext": "\xd4\x01a", "not UTF-8": "\xa1\xff", "NaN": "\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
		"a key that is a number": "\x81\x01\x01", "two values": "\x01\x01", "too deep": strings.Repeat("\x91", 200) + "\x01",
	} {
		if out, err := ToJSON([]byte(data)); err == nil {
			t.Errorf("%s was read as %s", name, out)
		}
	}
}

func FuzzToJSON(f *testing.F) {
	f.Add([]byte("\x82\xa1a\x01\xa1b\x92\xc0\xc3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if out, err := ToJSON(data); err == nil && !json.Valid(out) {
			t.Errorf("%x became %s", data, out)
		}
	})
}
