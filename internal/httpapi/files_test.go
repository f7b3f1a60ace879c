package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/auth"
)

// TestRawFiles: leave, upload, signed address and reading, as a push does it.
func TestRawFiles(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceRawstore)
	url, fields := s.leave("me", token, small)
	if url != s.http.URL+"/rawstore/o" {
		t.Errorf("upload_url is %s", url)
	}
	upload := func(name string, change map[string]string, content string, status int, text string) {
		t.Helper()
		form := maps.Clone(fields)
		maps.Copy(form, change)
		body, header := s.form(form, content)
		s.do("POST", "/rawstore/o", body, header).checkError(t, name, status, text)
	}
	upload("another key", map[string]string{"key": strings.Replace(fields["key"], "me/", "you/", 1)}, small, 403, "not valid")
	upload("longer leave", map[string]string{"policy": "9999999999"}, small, 403, "not valid")
	upload("no leave", map[string]string{"signature": ""}, small, 403, "not valid")
	upload("longer file", nil, small+"x", 400, "length or MD5")
	upload("shorter file", nil, small[1:], 400, "length or MD5")
	upload("another file", nil, strings.ToUpper(small), 400, "length or MD5")
	upload("long field", map[string]string{"x": strings.Repeat("x", 5000)}, small, 400, "longer than 4096 bytes")
	many := map[string]string{}
	for i := range 60 {
		many[fmt.Sprint("x", i)] = ""
	}
	upload("many fields", many, small, 400, "more than 50 fields")
	s.do("POST", "/rawstore/o", "x", "Content-Type: text/plain").checkError(t, "no form", 400, "must be a form")
	s.do("POST", "/rawstore/o", "x", "Content-Type: multipart/form-data; boundary=b").checkError(t, "broken form", 400, "broke off")
	s.do("POST", "/rawstore/o", "--b--\r\n", "Content-Type: multipart/form-data; boundary=b").checkError(t, "empty form", 400, "no file")

	address := s.file("me", small)
	for _, c := range []struct {
		name, token, owner, url string
		status                  int
	}{
		{"no token", "", "me", address, 401},
		{"another", s.token("you", auth.ServiceRawstore), "me", address, 403},
		{"another's file", s.token("you", auth.ServiceRawstore), "you", address, 400},
		{"user token", s.token("me", ""), "me", address, 401},
		{"another server", token, "me", "http://169.254.169.254/latest", 400},
		{"no address", token, "me", "", 400},
	} {
		s.get("/rawstore/presign?ownerid="+c.owner+"&url="+c.url, c.token).checkError(t, c.name, c.status, "")
	}
	a := s.get("/rawstore/presign?ownerid=me&url="+address, s.token("me", auth.ServiceSource)) // push-flow has such a token
	var out struct{ URL string }
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	path := strings.TrimPrefix(out.URL, s.http.URL)
	if a := s.get(path, ""); a.status != http.StatusOK || a.body != small || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Content-Disposition") != "attachment" {
		t.Errorf("%d %q %v", a.status, a.body, a.header)
	}
	if a := s.do("GET", path, "", "Range: bytes=3-6"); a.status != http.StatusPartialContent || a.body != small[3:7] {
		t.Errorf("%d %q", a.status, a.body)
	}
	s.get(strings.TrimPrefix(address, s.http.URL), token).checkError(t, "not signed", 403, "not signed")
	s.get(strings.Replace(path, "expires=", "expires=9", 1), "").checkError(t, "for longer", 403, "not signed")
	s.get(strings.Replace(path, "/me/", "/you/", 1), "").checkError(t, "another's", 403, "not signed")
	for _, body := range []string{"", "[]", "{", `{"metadata":{"owner":1}}`, `{"metadata":{"owner":"me"},"filedata":{"a":{"length":-1,"md5":"x"}}}`, `{"metadata":{"owner":"me"},"filedata":{"a":null}}`} {
		s.do("POST", "/rawstore/authorize", body, asJSON, "Auth-Token: "+token).checkError(t, body, 400, "")
	}
	s.do("POST", "/rawstore/authorize", `{"metadata":{"owner":"me"}}`, asJSON).checkError(t, "nobody", 401, denied)
	s.do("POST", "/rawstore/authorize", `{"metadata":{"owner":"me"}}`, asJSON, "Auth-Token: "+s.token("you", auth.ServiceRawstore)).checkError(t, "another", 403, denied)
	s.do("POST", "/rawstore/authorize", `{"x":"`+strings.Repeat("x", 8<<20)+`"}`, asJSON, "Auth-Token: "+token).checkError(t, "too large", 413, "larger than")
}

// TestPackageFiles: a push from its file to what is published, and how that is read.
func TestPackageFiles(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true})
	token := s.token("me", auth.ServiceSource)
	flow := s.upload(spec("me", "a", "published", s.file("me", small)), token)
	st := s.await(flow, "")
	if st.State != "SUCCEEDED" || len(st.ErrorLog) != 0 {
		t.Fatalf("%+v", st)
	}
	if want := s.http.URL + "/pkgstore/" + flow + "/datapackage.json"; st.Links.Package != want {
		t.Errorf("the package is at %s, want %s", st.Links.Package, want)
	}
	local := func(url string) string { return strings.TrimPrefix(url, s.http.URL) }
	descriptor := s.get(local(st.Links.Package), "")
	var d struct {
		Resources []struct{ Name, Path string }
	}
	if err := json.Unmarshal([]byte(descriptor.body), &d); err != nil || descriptor.status != http.StatusOK {
		t.Fatalf("%d %s", descriptor.status, descriptor.body)
	}
	if latest := s.get("/pkgstore/me/a/latest/datapackage.json", ""); latest.body != descriptor.body {
		t.Errorf("latest is another package: %d %s", latest.status, latest.body)
	}
	files := map[string]string{}
	for _, r := range d.Resources {
		path := local(r.Path)
		files[r.Name] = path
		a := s.get(path, "")
		want := map[string]string{"csv": "text/csv; charset=utf-8", "json": "application/json; charset=utf-8", "zip": "application/zip"}[path[strings.LastIndexByte(path, '.')+1:]]
		if strings.Contains(path, "/archive/") { // as its owner wrote it, in whatever encoding
			want, _, _ = strings.Cut(want, ";")
		}
		h := a.header
		if a.status != http.StatusOK || h.Get("Content-Type") != want || h.Get("ETag") == "" || h.Get("Cache-Control") != "no-cache" ||
			h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || !strings.Contains(h.Get("Vary"), "Auth-Token") {
			t.Errorf("%s: %d %v", path, a.status, h)
		}
	}
	csv := files["t_csv"]
	const rows = "id,name\r\n1,one\r\n2,two\r\n"
	whole := s.get(csv, "")
	if whole.body != rows {
		t.Fatalf("%s: %d %q", csv, whole.status, whole.body)
	}
	tag := whole.header.Get("ETag")
	if len(tag) != 66 || !strings.Contains(csv, "/"+strings.Trim(tag, `"`)+"/") {
		t.Errorf("the ETag of %s is %s", csv, tag)
	}
	for _, c := range []struct {
		name, method, header string
		status               int
		body, contentRange   string
	}{
		{"known", "GET", "If-None-Match: " + tag, 304, "", ""},
		{"known before", "GET", `If-None-Match: "x"`, 200, rows, ""},
		{"a part", "GET", "Range: bytes=0-6", 206, rows[:7], "bytes 0-6/23"},
		{"the end", "GET", "Range: bytes=-5", 206, rows[18:], "bytes 18-22/23"},
		{"head", "HEAD", "X-None: x", 200, "", ""},
		{"head of a part", "HEAD", "Range: bytes=0-6", 206, "", "bytes 0-6/23"},
	} {
		a := s.do(c.method, csv, "", c.header)
		if a.status != c.status || a.body != c.body || a.header.Get("Content-Range") != c.contentRange {
			t.Errorf("%s: %d %q %v", c.name, a.status, a.body, a.header)
		}
	}
	behind := s.do("GET", csv, "", "Range: bytes=100-")
	behind.checkError(t, "behind the end", http.StatusRequestedRangeNotSatisfiable, "range")
	if behind.header.Get("Content-Range") != "bytes */23" || behind.header.Get("ETag") != "" {
		t.Errorf("%v", behind.header)
	}
	s.do("GET", csv, "", `If-Match: "x"`).checkError(t, "another one", http.StatusPreconditionFailed, "precondition")
	// A pipeline's own descriptor stays as it is, whatever other attempts write.
	if a := s.get(local(st.Pipelines[flow+"/t_csv"].descriptor(t)), ""); a.status != http.StatusOK || a.header.Get("ETag") == "" || !strings.Contains(a.body, csv) {
		t.Errorf("%d %v", a.status, a.header)
	}
	for _, path := range []string{
		"/pkgstore/", "/pkgstore/me", "/pkgstore/me/a/1", "/pkgstore/me/a/2/datapackage.json", "/pkgstore/me/b/1/datapackage.json", "/pkgstore/me/a/1/_/none/datapackage.json",
		"/pkgstore/me/a/..%2f..%2fregistry.db", "/pkgstore/_tmp/a/b/c", "/pkgstore/me/a/t_csv/data", "/pkgstore/me/a/t_csv/data/x%00y/z", "/pkgstore/me/a/" + strings.Repeat("x", 3000) + "/y",
	} {
		s.get(path, token).checkError(t, path, http.StatusNotFound, "")
	}

	// What becomes private is so at once, with all that was published before.
	s.upload(spec("me", "a", "private", somewhere), token)
	for _, path := range []string{csv, local(st.Links.Package), "/pkgstore/me/a/latest/datapackage.json", local(st.Pipelines[flow+"/t_csv"].descriptor(t))} {
		s.do("GET", path, "", "If-None-Match: "+tag).checkError(t, "a stranger, "+path, http.StatusNotFound, "there is no object")
		if a := s.get(path, token); a.status != http.StatusOK {
			t.Errorf("the owner, %s: %d %s", path, a.status, a.body)
		}
	}
}

// TestRawFileConditions: an uploaded file is read in parts and on conditions, as any file.
func TestRawFileConditions(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	address := s.file("me", small)
	presigned := func(address string) string {
		var out struct{ URL string }
		s.read("/rawstore/presign?ownerid=me&url="+address, s.token("me", auth.ServiceSource), &out)
		return strings.TrimPrefix(out.URL, s.http.URL)
	}
	path := presigned(address)
	a := s.get(path, "")
	if a.status != http.StatusOK || a.body != small {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if part := s.do("GET", path, "", "Range: bytes=1-2"); part.status != http.StatusPartialContent || part.body != small[1:3] {
		t.Errorf("%d %q", part.status, part.body)
	}
	if same := s.do("GET", path, "", "If-Modified-Since: "+a.header.Get("Last-Modified")); same.status != http.StatusNotModified {
		t.Errorf("%d", same.status)
	}
	s.do("GET", path, "", "Range: bytes=100000-").checkError(t, "behind the end", http.StatusRequestedRangeNotSatisfiable, "")
	absent := s.http.URL + "/rawstore/o/me/" + strings.Repeat("0", 32) + "-5"
	s.get(presigned(absent), "").checkError(t, "absent", http.StatusNotFound, "")
}
