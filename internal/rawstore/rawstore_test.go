package rawstore_test

import (
	"crypto/md5"
	"encoding/base64"
	"io"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/rawstore"
)

const base = "http://host/rawstore/o"

func fileOf(text string) rawstore.File {
	sum := md5.Sum([]byte(text))
	return rawstore.File{Length: int64(len(text)), MD5: base64.StdEncoding.EncodeToString(sum[:])}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	objects, err := objstore.OpenLocal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	now := time.Unix(1700000000, 0)
	s := rawstore.New(objects, []byte("secret"), func() time.Time { return now })
	leave := func() rawstore.Leave {
		out, err := s.Authorize(t.Context(), "me", map[string]rawstore.File{"a.csv": fileOf("text")}, base)
		if err != nil {
			t.Fatal(err)
		}
		return out["a.csv"]
	}
	first := leave()
	if first.Exists {
		t.Error("a file exists before its upload")
	}
	for _, c := range []struct {
		name, body string
		change     func(m map[string]string)
		kind       errs.Kind
	}{
		{"shorter", "tex", nil, errs.Invalid}, {"longer", "text+", nil, errs.Invalid}, {"other", "xett", nil, errs.Invalid},
		{"other key", "text", func(m map[string]string) { m["key"] = strings.Replace(m["key"], "me/", "you/", 1) }, errs.Forbidden},
		{"later", "text", func(m map[string]string) { m["policy"] = "9999999999" }, errs.Forbidden},
		{"unsigned", "text", func(m map[string]string) { delete(m, "signature") }, errs.Forbidden},
	} {
		form := maps.Clone(first.Query)
		if c.change != nil {
			c.change(form)
		}
		if err := s.Accept(t.Context(), form, strings.NewReader(c.body)); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if leave().Exists {
		t.Error("a refused upload left something behind")
	}
	if err := s.Accept(t.Context(), first.Query, strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	if !leave().Exists {
		t.Error("an uploaded file does not exist")
	}
	if other, _ := s.Authorize(t.Context(), "you", map[string]rawstore.File{"a": fileOf("text")}, base); other["a"].Exists {
		t.Error("another owner learns of the file")
	}
	signed, err := url.Parse(s.Presign(base, first.Query["key"]))
	if err != nil {
		t.Fatal(err)
	}
	key, ok := rawstore.KeyOf(base, signed.String())
	q := signed.Query()
	if !ok || !s.MayRead(key, q.Get("expires"), q.Get("signature")) || s.MayRead(key, q.Get("expires"), "00") || s.MayRead("you"+key[2:], q.Get("expires"), q.Get("signature")) {
		t.Error("the signature of an address")
	}
	o, _, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if b, _ := io.ReadAll(o); string(b) != "text" {
		t.Errorf("%q", b)
	}
	now = now.Add(7 * time.Hour)
	if s.MayRead(key, q.Get("expires"), q.Get("signature")) {
		t.Error("a signed address is good for ever")
	}
	if err := s.Accept(t.Context(), first.Query, strings.NewReader("text")); !errs.Is(err, errs.Forbidden) {
		t.Errorf("leave is good for ever: %v", err)
	}
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		base + "/me/ab-1": "me/ab-1", base + "/me/ab-1?x=1#.csv": "me/ab-1", base + "/a%20b/ab-1": "a b/ab-1",
		"http://other/rawstore/o/me/ab-1": "", base + "/../x": "", base + "/me": "", base + "x/me/ab-1": "", base + "/%2e%2e/ab-1": "",
	} {
		if key, _ := rawstore.KeyOf(base, address); key != want {
			t.Errorf("%s: %q, want %q", address, key, want)
		}
	}
}
