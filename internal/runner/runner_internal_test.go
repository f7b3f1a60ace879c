package runner

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
)

func TestSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		n    int64 // 0: refused
		back string
	}{
		{"1", 1, "1 bytes"},
		{"1024", 1 << 10, "1 KiB"},
		{"1000", 1000, "1000 bytes"},
		{"512MiB", 512 << 20, "512 MiB"},
		{"1 GiB", 1 << 30, "1 GiB"},
		{"3TiB", 3 << 40, "3 TiB"},
		{"7 B", 7, "7 bytes"},
		{text: ""},
		{text: "GiB"},
		{text: "0"},
		{text: "-1"},
		{text: "+"},
		{text: "1.5GiB"},
		{text: "1GB"},
		{text: "1K"},
		{text: "9223372036854775807KiB"},
		{text: "1 GiB B"},
		{text: "9e3"},
		{text: "1GiBGiB"},
	} {
		n, err := ParseSize(c.text)
		if (err == nil) != (c.n > 0) || err == nil && (n != c.n || Size(n) != c.back) {
			t.Errorf("%q: %d, %v, %q; want %d, %q", c.text, n, err, Size(n), c.n, c.back)
		}
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	for d, want := range map[time.Duration]string{6 * time.Hour: "6h", 90 * time.Minute: "1h30m", 5 * time.Second: "5s", 20 * time.Minute: "20m"} {
		if got := period(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

// TestOnDisk: temporary files count with a name and, on Linux, without one.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, n int) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			_, err = f.Write(make([]byte, n))
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	defer write("named", 1000).Close()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	defer write("d/deeper", 100).Close()
	if got := onDisk(os.Getpid(), dir); got != 1100 {
		t.Errorf("%d bytes, want 1100", got)
	}
	unnamed := write("unnamed", 10)
	defer unnamed.Close()
	if err := os.Remove(unnamed.Name()); err != nil {
		t.Fatal(err)
	}
	if _, known := resident(os.Getppid()); !known {
		return // not Linux
	}
	if got := onDisk(os.Getpid(), dir); got != 1110 {
		t.Errorf("%d bytes with one that has no name, want 1110", got)
	}
}

// TestMessages: a message is bounded on both sides, and what is announced is not believed.
func TestMessages(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	s := &sender{w: &b}
	long := strings.Repeat("x", maxMessage)
	if err := s.send(message{Kind: kindEvent, Event: &Event{Log: []string{long}}}); !errors.Is(err, errTooLong) || b.Len() != 0 {
		t.Errorf("a long one: %v, %d bytes were sent", err, b.Len())
	}
	if err := s.send(message{Kind: kindEvent, Event: &Event{Pipeline: "<p>", Outputs: []byte(`{"a":1}`)}}); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	if m, n, err := receive(&b); err != nil || n != len(whole)-4 || m.Event == nil || m.Event.Pipeline != "<p>" || string(m.Event.Outputs) != `{"a":1}` {
		t.Errorf("%+v, %d, %v", m, n, err)
	}
	if _, _, err := receive(&b); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for name, in := range map[string][]byte{
		"cut off":       whole[:len(whole)-1],
		"a cut head":    whole[:3],
		"only a length": binary.BigEndian.AppendUint32(nil, maxMessage),
		"too long":      append(binary.BigEndian.AppendUint32(nil, maxMessage+1), make([]byte, 100)...),
		"not JSON":      append(binary.BigEndian.AppendUint32(nil, 3), "abc"...),
	} {
		if m, _, err := receive(bytes.NewReader(in)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestTail: what a child logs is kept from its beginning and its end, bounded.
func TestTail(t *testing.T) {
	t.Parallel()
	var l tail
	for range 10_000 {
		if n, err := l.Write([]byte("0123456789\n")); n != 11 || err != nil {
			t.Fatal(n, err)
		}
	}
	_, _ = l.Write([]byte("the end"))
	if s := l.take(); len(s) != maxLog || !strings.HasPrefix(s, "0123") || !strings.HasSuffix(s, "the end") {
		t.Errorf("%d bytes: %.20q", len(s), s)
	}
	if s := l.String(); s != "" {
		t.Errorf("then %q", s)
	}
}
