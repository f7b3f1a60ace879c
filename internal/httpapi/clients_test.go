package httpapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// TestFormOrder: the fields of a form come before its one file, and nothing is kept of a
// form that is otherwise.
func TestFormOrder(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceRawstore)
	part := func(name, content string) string {
		disposition := `form-data; name="` + name + `"`
		if name == "file" {
			disposition += `; filename="t.csv"`
		}
		return "--b\r\nContent-Disposition: " + disposition + "\r\n\r\n" + content + "\r\n"
	}
	for name, c := range map[string]struct {
		form   func(fields func(without string) string) string
		status int
		want   string
	}{
		"as it should be":        {func(f func(string) string) string { return f("") + part("file", small) }, 204, ""},
		"no key":                 {func(f func(string) string) string { return f("key") + part("file", small) }, 400, "no field key"},
		"the key behind":         {func(f func(string) string) string { return f("key") + part("file", small) + part("key", "x") }, 400, "no field key"},
		"a field behind":         {func(f func(string) string) string { return f("") + part("file", small) + part("x", "1") }, 400, `the field "x" behind its file`},
		"a second file":          {func(f func(string) string) string { return f("") + part("file", small) + part("file", small) }, 400, "two files"},
		"a second, empty file":   {func(f func(string) string) string { return f("") + part("file", small) + part("file", "") }, 400, "two files"},
		"no file":                {func(f func(string) string) string { return f("") }, 400, "no file"},
		"nothing, then the file": {func(func(string) string) string { return part("file", small) }, 400, "no field key"},
	} {
		t.Run(name, func(t *testing.T) {
			content := small + name + "\n" // a file of its own
			_, fields := s.leave("me", token, content)
			body := strings.ReplaceAll(c.form(func(without string) string {
				var b strings.Builder
				for name, value := range fields {
					if name != without {
						b.WriteString(part(name, value))
					}
				}
				return b.String()
			}), small, content) + "--b--\r\n"
			a := s.do("POST", "/rawstore/o", body, "Content-Type: multipart/form-data; boundary=b")
			if a.status != c.status || !strings.Contains(a.body, strings.ReplaceAll(c.want, `"`, `\"`)) {
				t.Errorf("got %d %s, want %d %q", a.status, a.body, c.status, c.want)
			}
			found := s.get("/rawstore/presign?ownerid=me&url="+s.http.URL+"/rawstore/o/"+fields["key"], token)
			_, signed, _ := strings.Cut(found.body, s.http.URL)
			signed, _, _ = strings.Cut(signed, `"`)
			if kept := s.get(strings.ReplaceAll(signed, `\u0026`, "&"), "").status == http.StatusOK; kept != (c.status == 204) {
				t.Errorf("the file is kept: %t", kept)
			}
		})
	}
}

// TestExpiredToken: an owner whose token has expired does not take a private dataset for
// one that is gone; what is not there has the same answer.
func TestExpiredToken(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	s.create("me", "hidden", "private", registry.External)
	s.create("me", "shown", "published", registry.External)
	expired := testkit.Must(s.issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, Expires: time.Hour}, time.Now().Add(-2*time.Hour)))(t)
	for _, path := range []string{
		"/source/me/NAME/1", "/source/me/NAME", "/source/me/NAME/1/events", "/source/me/NAME/1/plan", "/source/me/NAME/1/pipelines/NAME/log",
		"/source/me/NAME/1/report", "/source/me/NAME/1/diff/1", "/pkgstore/me/NAME/1/datapackage.json",
	} {
		hidden, absent := s.get(strings.ReplaceAll(path, "NAME", "hidden"), expired), s.get(strings.ReplaceAll(path, "NAME", "absent"), expired)
		if hidden.status != 401 || !strings.Contains(hidden.body, "the token has expired") || hidden.body != absent.body || absent.status != 401 {
			t.Errorf("%s: got %d %s and %d %s, want 401 twice", path, hidden.status, hidden.body, absent.status, absent.body)
		}
	}
	if a := s.get("/source/me/shown/1", expired); a.status != 200 {
		t.Errorf("got %d %s of what everybody may read", a.status, a.body)
	}
	// A token that another key signed is as good as none.
	if a := s.get("/source/me/hidden/1", expired[:len(expired)-8]+"AAAAAAAA"); a.status != 404 {
		t.Errorf("got %d %s for a forged token, want 404", a.status, a.body)
	}
}

// TestLinksAreAddresses: names have letters of any script, and addresses do not.
func TestLinksAreAddresses(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true})
	token := s.token("münchen", auth.ServiceSource)
	flow := s.upload(spec("münchen", "straßen-数", "published", s.file("münchen", "id,name\n1,x\n")), token)
	st := s.await(flow, token)
	if st.State != "SUCCEEDED" {
		t.Fatalf("%s %q", st.State, st.ErrorLog)
	}
	list := s.get("/source/"+url.PathEscape("münchen"), token)
	for name, text := range map[string]string{"status": s.get("/source/"+flow, token).body, "list": list.body} {
		for link := range strings.SplitSeq(text, `"`) {
			if strings.HasPrefix(link, s.http.URL) && strings.ContainsFunc(link, func(r rune) bool { return r >= 0x80 }) {
				t.Errorf("%s has the link %s", name, link)
			}
		}
	}
	for _, link := range []string{st.Links.Self, st.Links.Package} {
		path := strings.TrimPrefix(link, s.http.URL)
		if a := s.get(path, ""); a.status != 200 {
			t.Errorf("%s: got %d %s", link, a.status, a.body)
		}
	}
}

// TestReadInPlace: pages of other origins read ranges of published files, and an original
// is not said to be in an encoding that nobody knows.
func TestReadInPlace(t *testing.T) {
	t.Parallel()
	s := start(t, options{workers: true})
	token := s.token("me", auth.ServiceSource)
	flow := s.upload(spec("me", "a", "published", s.file("me", "id,name\n1,caf\xe9\n")), token)
	s.await(flow, token)
	d := s.get("/pkgstore/"+flow+"/datapackage.json", "").body
	for part := range strings.SplitSeq(d, `"`) {
		path, ok := strings.CutPrefix(part, s.http.URL)
		if !ok {
			continue
		}
		a := s.get(path, "")
		kind := a.header.Get("Content-Type")
		if strings.Contains(path, "/archive/") && strings.Contains(kind, "charset") {
			t.Errorf("%s is %s", path, kind)
		}
		if expose := a.header.Get("Access-Control-Expose-Headers"); !strings.Contains(expose, "Content-Range") || !strings.Contains(expose, "ETag") {
			t.Errorf("%s exposes %q", path, expose)
		}
		pre := s.do("OPTIONS", path, "", "Origin: https://example.org", "Access-Control-Request-Headers: range")
		if allow := pre.header.Get("Access-Control-Allow-Headers"); !strings.Contains(allow, "Range") || !strings.Contains(allow, "If-None-Match") || pre.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: OPTIONS gives %d %v", path, pre.status, pre.header)
		}
	}
}

// TestEventsOver: a reader of events that has all of them is not asked to come back.
func TestEventsOver(t *testing.T) {
	t.Parallel()
	s := start(t, options{updateToken: "op"})
	flow := s.create("me", "a", "published", registry.External).ID
	if a := s.do("HEAD", "/source/"+flow+"/events", ""); a.header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("got %v, want X-Accel-Buffering: no", a.header)
	}
	for _, id := range []string{flow + "/a", flow + "/b", flow} {
		s.news(id, `"event":"finish","success":true`)
	}
	all := s.get("/source/"+flow+"/events", "")
	last := all.body[strings.LastIndex(all.body, "id: ")+len("id: "):]
	last, _, _ = strings.Cut(last, "\n")
	for after, want := range map[string]int{"": 200, "1": 200, last: 204, "999": 204} {
		a := s.do("GET", "/source/"+flow+"/events", "", "Last-Event-ID: "+after)
		if a.status != want || want == 204 && a.body != "" {
			t.Errorf("after %q: got %d %q, want %d", after, a.status, a.body, want)
		}
	}
}
