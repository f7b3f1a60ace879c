package tables_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
)

// endless reads as a head and then a unit without end. It cancels when it was read for a
// while, and fails when it is read on.
type endless struct {
	head, unit string
	at         int // in the unit
	cancel     func()
	n          int
}

var errReadOn = errors.New("the source was read on after the end of the context")

func (e *endless) Read(p []byte) (int, error) {
	const cancelAt, most = 4 << 20, 40 << 20
	n := copy(p, e.head)
	e.head = e.head[n:]
	for n < len(p) {
		k := copy(p[n:], e.unit[e.at:])
		e.at = (e.at + k) % len(e.unit)
		n += k
	}
	if e.n += n; e.n > most {
		return 0, errReadOn
	}
	if e.n > cancelAt {
		e.cancel()
	}
	return n, nil
}

// TestCancelled: reading ends with its context in every format, also where a file goes on
// without a row.
func TestCancelled(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(bytes.Repeat([]byte("1,2\n"), 100)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		format, head, unit string
		resource           map[string]any
	}{
		"csv":                  {format: "csv", head: "a,b\n", unit: "1,2\n"},
		"a csv cell":           {format: "csv", head: "a,b\n", unit: "x"},
		"comments":             {format: "csv", head: "a,b\n", unit: "# no row\n", resource: map[string]any{"dialect": map[string]any{"commentChar": "#"}}},
		"skipped rows":         {format: "csv", head: "a,b\n", unit: "no row\n", resource: map[string]any{"dialect": map[string]any{"skipRows": 1 << 30}}},
		"another encoding":     {format: "csv", unit: "ä,ö\n", resource: map[string]any{"encoding": "utf-16le"}},
		"ndjson":               {format: "ndjson", head: `{"a": 1}` + "\n", unit: `{"a": 1}` + "\n"},
		"json":                 {format: "json", head: `[{"a": 1}`, unit: `,{"a": 1}`},
		"blanks in json":       {format: "json", head: `[{"a": 1}`, unit: " "},
		"a long json value":    {format: "json", head: `[{"a": [`, unit: "1,"},
		"gzip":                 {format: "csv.gz", head: packed.String(), unit: packed.String(), resource: map[string]any{"compression": "gz"}},
		"a copy for xlsx":      {format: "xlsx", unit: "x"},
		"a copy for parquet":   {format: "parquet", unit: "x"},
		"a copy for sqlite":    {format: "sqlite", unit: "x"},
		"a copy of an archive": {format: "csv", unit: "x", resource: map[string]any{"compression": "zip"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			temp := t.TempDir()
			resource := map[string]any{"name": "t", "schema": map[string]any{}}
			maps.Copy(resource, c.resource)
			from := &endless{head: c.head, unit: c.unit, cancel: cancel}
			err := readToEnd(ctx, tables.Source{Reader: from, Whole: tables.Spool(ctx, from, temp)}, tables.Options{Resource: resource, Format: strings.TrimSuffix(c.format, ".gz"), Temp: temp})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that the context has ended", err)
			}
		})
	}
}

func readToEnd(ctx context.Context, src tables.Source, o tables.Options) error {
	o.Pool = &stream.Pool{}
	r, err := tables.Open(ctx, src, o)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if _, err := r.Header(); err != nil {
		return err
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b.Release()
	}
}

// TestCancelledFiles: so does reading a file at places.
func TestCancelledFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../parquet/testdata/table_plain_v1_snappy.parquet"} {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		path := t.TempDir() + "/f"
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		cancel()
		src := tables.Source{Reader: bytes.NewReader(body), Whole: func() (string, error) { return path, nil }}
		if err := readToEnd(ctx, src, tables.Options{Format: "parquet", Resource: map[string]any{}}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that the context has ended", name, err)
		}
	}
}
