package fetch_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/fetch"
)

// packed is a text in a coding.
func packed(t *testing.T, coding, text string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "deflate":
		w, err = flate.NewWriter(&b, flate.DefaultCompression)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	default:
		t.Fatalf("no coding %q", coding)
	}
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestCodings: what is read is the file, however its server packs it on the way, and no
// longer than the limit, however small it comes.
func TestCodings(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	file := packed(t, "gzip", "a,b\n1,2\n")
	for name, c := range map[string]struct {
		path, coding, body string
		want               string
		fails              string
	}{
		"identity":                    {"/t.csv", "identity", "text", "text", ""},
		"gzip":                        {"/t.csv", "gzip", packed(t, "gzip", "text"), "text", ""},
		"upper case":                  {"/t.csv", "GZip", packed(t, "gzip", "text"), "text", ""},
		"x-gzip":                      {"/t.csv", "x-gzip", packed(t, "gzip", "text"), "text", ""},
		"deflate as zlib":             {"/t.csv", "deflate", packed(t, "zlib", "text"), "text", ""},
		"bare deflate":                {"/t.csv", "deflate", packed(t, "deflate", "text"), "text", ""},
		"br":                          {"/t.csv", "br", packed(t, "br", "text"), "text", ""},
		"zstd":                        {"/t.csv", "zstd", packed(t, "zstd", "text"), "text", ""},
		"two":                         {"/t.csv", "deflate, gzip", packed(t, "gzip", packed(t, "zlib", "text")), "text", ""},
		"empty body":                  {"/t.csv", "gzip", "", "", ""},
		"packed file":                 {"/t.csv.gz", "", file, file, ""},
		"packed file, declared":       {"/t.csv.gz", "gzip", file, file, ""},
		"packed file, declared x":     {"/t.csv.GZ", "x-gzip", file, file, ""},
		"packed file, packed":         {"/t.csv.gz", "gzip", packed(t, "gzip", file), file, ""},
		"packed file, packed as br":   {"/t.csv.gz", "br", packed(t, "br", file), file, ""},
		"packed file, both declared":  {"/t.csv.gz", "gzip, gzip", packed(t, "gzip", file), file, ""},
		"zst file, declared":          {"/t.csv.zst", "zstd", packed(t, "zstd", "text"), packed(t, "zstd", "text"), ""},
		"unknown":                     {"/t.csv", "compress", "text", "", "cannot be read"},
		"too many":                    {"/t.csv", strings.Repeat("gzip, ", 3) + "gzip", "text", "", "packed 4 times"},
		"damaged":                     {"/t.csv", "gzip", "text", "", "is damaged"},
		"damaged br":                  {"/t.csv", "br", "\xff\xff\xff\xff", "", "is damaged"},
		"cut off":                     {"/t.csv", "gzip", packed(t, "gzip", strings.Repeat("text", 1000))[:40], "", "is damaged"},
		"as long as allowed":          {"/t.csv", "gzip", packed(t, "gzip", strings.Repeat("x", limit)), strings.Repeat("x", limit), ""},
		"too long unpacked":           {"/t.csv", "gzip", packed(t, "gzip", strings.Repeat("x", limit+1)), "", "once its content coding is undone"},
		"too long unpacked, br":       {"/t.csv", "br", packed(t, "br", strings.Repeat("x", 50*limit)), "", "once its content coding is undone"},
		"too long unpacked, deflate":  {"/t.csv", "deflate", packed(t, "zlib", strings.Repeat("x", 50*limit)), "", "once its content coding is undone"},
		"too long unpacked, zstd":     {"/t.csv", "zstd", packed(t, "zstd", strings.Repeat("x", 50*limit)), "", "once its content coding is undone"},
		"too long":                    {"/t.csv", "", strings.Repeat("x", limit+1), "", "more than 1048576 bytes"},
		"too long, of unknown length": {"/flush.csv", "", strings.Repeat("x", limit+1), "", "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.coding != "" {
					w.Header().Set("Content-Encoding", c.coding)
				}
				if r.URL.Path == "/flush.csv" {
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, c.body)
			}))
			defer s.Close()
			cl, err := fetch.New(fetch.Config{Allow: []string{"127.0.0.1"}, MaxBytes: limit})
			if err != nil {
				t.Fatal(err)
			}
			body, info, err := cl.Open(t.Context(), s.URL+c.path)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(body)
				body.Close()
			}
			if c.fails != "" {
				if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), c.fails) {
					t.Errorf("got %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil || string(got) != c.want {
				t.Errorf("got %.60q, %v, want %.60q", got, err, c.want)
			}
			if info.Size >= 0 && info.Size != int64(len(c.want)) {
				t.Errorf("got size %d, want %d or none", info.Size, len(c.want))
			}
		})
	}
}
