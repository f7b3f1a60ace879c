package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
)

// A revision that has ended has an entity tag, which is as good as its body; who may
// not read it is not told that it has not changed.
func TestStatusTag(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	token := s.token("me", auth.ServiceSource)
	for _, findability := range []string{"published", "private"} {
		flow := s.upload(spec("me", findability, findability, somewhere), token)
		ask := func(headers ...string) answer {
			return s.do("GET", "/source/"+flow, "", append(headers, "Auth-Token: "+token)...)
		}
		if a := ask("If-None-Match: *"); a.status != http.StatusOK || a.header.Get("ETag") != "" {
			t.Errorf("%s, open: %d %v", findability, a.status, a.header)
		}
		if _, err := s.store.Cancel(t.Context(), flow, "enough"); err != nil {
			t.Fatal(err)
		}
		ended := ask()
		tag := ended.header.Get("ETag")
		want := map[string]string{"published": "no-cache", "private": "private, no-cache"}[findability]
		if ended.status != http.StatusOK || len(tag) < 10 || ended.header.Get("Cache-Control") != want || ended.header.Get("Vary") == "" {
			t.Fatalf("%s, ended: %d %v", findability, ended.status, ended.header)
		}
		if again := ask(); again.header.Get("ETag") != tag || again.body != ended.body {
			t.Errorf("%s: %v and %v", findability, again.header, ended.header)
		}
		for match, status := range map[string]int{
			tag: http.StatusNotModified, "W/" + tag: http.StatusNotModified, `"a", ` + tag: http.StatusNotModified, "*": http.StatusNotModified,
			`"a"`: http.StatusOK, tag[:len(tag)-2] + `"`: http.StatusOK, "": http.StatusOK,
		} {
			a := ask("If-None-Match: " + match)
			if a.status != status || a.header.Get("ETag") != tag || (a.body == "") != (status == http.StatusNotModified) {
				t.Errorf("%s, %s: %d %v %q", findability, match, a.status, a.header, a.body)
			}
		}
		stranger := s.do("GET", "/source/"+flow, "", "If-None-Match: "+tag)
		if wants := map[string]int{"published": http.StatusNotModified, "private": http.StatusNotFound}[findability]; stranger.status != wants {
			t.Errorf("%s, a stranger: %d %v", findability, stranger.status, stranger.header)
		}
		if done, err := s.svc.Retry(t.Context(), token, "me/"+findability, "1"); err != nil || !done {
			t.Fatal(done, err)
		}
		if a := ask("If-None-Match: " + tag); a.status != http.StatusOK {
			t.Errorf("%s, tried again: %d", findability, a.status)
		}
	}
}

// Times have six digits after the point, always.
func TestStamp(t *testing.T) {
	t.Parallel()
	for text, at := range map[string]time.Time{
		`null`:                          {},
		`"2026-01-02T03:04:05.000000Z"`: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		`"1999-12-31T23:59:59.999999Z"`: time.Date(2000, 1, 1, 1, 59, 59, 999_999_999, time.FixedZone("", 7200)),
		`"0001-02-03T00:00:00.012300Z"`: time.Date(1, 2, 3, 0, 0, 0, 12_300_000, time.UTC),
	} {
		if got := httpapi.Stamp(at); got != text {
			t.Errorf("%v is %s, want %s", at, got, text)
		}
	}
}
