package rawstore_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
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
		{"shorter", "tex", nil, errs.Invalid},
		{"longer", "text+", nil, errs.Invalid},
		{"other", "xett", nil, errs.Invalid},
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
	o, err := s.Open(t.Context(), key)
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

const sum = "1cb251ec0d568de6a929b520c4aed8d1" // MD5 of "text"

func TestKeyOf(t *testing.T) {
	t.Parallel()
	file := "/" + sum + "-4"
	for address, want := range map[string]string{
		base + "/me" + file: "me" + file, base + "/me" + file + "?x=1#.csv": "me" + file, base + "/a~20b" + file: "a~20b" + file,
		base + "/a%7e20b" + file:                    "a~20b" + file,
		"http://other/rawstore/o/me" + file:         "",
		base + "/../x":                              "",
		base + "/me":                                "",
		base + "x/me" + file:                        "",
		base + "/%2e%2e" + file:                     "",
		base + "/.." + file:                         "",
		base + "/you/../me" + file:                  "",
		base + "/me%2fyou" + file:                   "",
		base + "/me%252f" + sum + "-4":              "",
		base + "//me" + file:                        "",
		base + "/me" + file + ".sha256":             "",
		base + "/me/" + sum + "-04":                 "",
		base + "/me/" + sum + "-+4":                 "",
		base + "/me/" + sum + "--4":                 "",
		base + "/me/" + strings.ToUpper(sum) + "-4": "",
		base + "/_tmp" + file:                       "",
	} {
		if key, _ := rawstore.KeyOf(base, address); key != want {
			t.Errorf("%s: %q, want %q", address, key, want)
		}
	}
}

func open(t *testing.T) *rawstore.Store {
	t.Helper()
	objects, err := objstore.OpenLocal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { objects.Close() })
	return rawstore.New(objects, nil, time.Now)
}

// TestOwners: the keys of an owner are his alone and stand in addresses as they are.
// Who could upload no spec uploads no files.
func TestOwners(t *testing.T) {
	t.Parallel()
	s := open(t)
	owners := []string{"me", "Me-1_x.y", "_tmpx", "_t", ".x", "ö", "x.y", "x-y", "ß", "日本"}
	keys := map[string]string{}
	for _, owner := range owners {
		out, err := s.Authorize(t.Context(), owner, map[string]rawstore.File{"p": fileOf("text")}, base)
		if err != nil {
			t.Errorf("%q: %v", owner, err)
			continue
		}
		leave := out["p"]
		if err := s.Accept(t.Context(), leave.Query, strings.NewReader("text")); err != nil {
			t.Errorf("%q: %v", owner, err)
		}
		key := leave.Query["key"]
		// As the old clients do: nothing is escaped, in a path or in a query.
		q, err := url.ParseQuery("url=" + leave.URL + "/" + key)
		if err != nil {
			t.Errorf("%q: %v", owner, err)
		}
		if got, ok := rawstore.KeyOf(base, q.Get("url")); !ok || got != key {
			t.Errorf("%q: key %q became %q", owner, key, got)
		}
		for _, other := range owners {
			if rawstore.Owned(key, other) != (owner == other) {
				t.Errorf("%q owns %q: %v", other, key, owner != other)
			}
		}
		keys[key] = owner
	}
	if len(keys) != len(owners) {
		t.Errorf("%d keys of %d owners", len(keys), len(owners))
	}
	if keys["me/"+sum+"-4"] != "me" {
		t.Errorf("a plain owner ID stands in the key as it is: %v", keys)
	}
	for _, owner := range []string{
		"", "a/b", strings.Repeat("a", 300), "a b", "a+b", "a%20b", "a~20b", "..", ".", "_tmp", "_TMP", "login", "api", "ö@example.org", "a\\b", "a?b#c", "\x00\xff", "o\u0308",
	} {
		if _, err := s.Authorize(t.Context(), owner, map[string]rawstore.File{"p": fileOf("text")}, base); !errs.Is(err, errs.Invalid) {
			t.Errorf("%.10q: %v", owner, err)
		}
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	s := open(t)
	good := fileOf("text")
	for name, f := range map[string]rawstore.File{
		"no md5": {Length: 4}, "hex": {Length: 4, MD5: sum}, "short": {Length: 4, MD5: "AAAA"}, "negative": {Length: -1, MD5: good.MD5},
		"too long": {Length: rawstore.MaxBytes + 1, MD5: good.MD5}, "type": {Length: 4, MD5: good.MD5, Type: "a/b\r\nX: y"},
	} {
		_, err := s.Authorize(t.Context(), "me", map[string]rawstore.File{"good": good, name: f}, base)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := map[string]rawstore.File{}
	for i := range 10001 {
		many[strconv.Itoa(i)] = good
	}
	if _, err := s.Authorize(t.Context(), "me", many, base); !errs.Is(err, errs.TooLarge) {
		t.Errorf("many files: %v", err)
	}
}

// TestCollision: of two files with one MD5 (Wang and Yu, 2005) the first stays, so
// that nobody can change what a spec points at.
func TestCollision(t *testing.T) {
	t.Parallel()
	const first = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
	a, err := hex.DecodeString(first)
	if err != nil {
		t.Fatal(err)
	}
	b := slices.Clone(a)
	for _, at := range []int{19, 45, 59, 83, 109, 123} {
		b[at] ^= 0x80
	}
	if md5.Sum(a) != md5.Sum(b) || string(a) == string(b) {
		t.Fatal("the files do not collide")
	}
	s := open(t)
	out, err := s.Authorize(t.Context(), "me", map[string]rawstore.File{"p": fileOf(string(a))}, base)
	if err != nil {
		t.Fatal(err)
	}
	form := out["p"].Query
	for i, c := range []struct {
		body []byte
		want bool
	}{{a, true}, {b, false}, {a, true}} {
		err := s.Accept(t.Context(), form, bytes.NewReader(c.body))
		if c.want && err != nil || !c.want && !errs.Is(err, errs.Conflict) {
			t.Errorf("upload %d: %v", i, err)
		}
	}
	want := sha256.Sum256(a)
	if got, err := s.SHA256(t.Context(), form["key"]); got != hex.EncodeToString(want[:]) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := s.Open(t.Context(), form["key"]+".sha256"); !errs.Is(err, errs.NotFound) {
		t.Errorf("the note is a file: %v", err)
	}
}

func TestBrokenUpload(t *testing.T) {
	t.Parallel()
	s := open(t)
	out, err := s.Authorize(t.Context(), "me", map[string]rawstore.File{"p": fileOf("text")}, base)
	if err != nil {
		t.Fatal(err)
	}
	form := out["p"].Query
	body := io.MultiReader(strings.NewReader("te"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := s.Accept(t.Context(), form, body); !errs.Is(err, errs.Invalid) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	form["Content-Type"] = "text/html"
	if err := s.Accept(t.Context(), form, iotest.ErrReader(errors.New("read"))); !errs.Is(err, errs.Forbidden) {
		t.Errorf("another content type: %v", err)
	}
	if _, err := s.Open(t.Context(), form["key"]); !errs.Is(err, errs.NotFound) {
		t.Errorf("a broken upload left a file: %v", err)
	}
}
