package service_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/fetch"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service/servicetest"
	"github.com/datahq/specstore/internal/testkit"
)

// An uploaded file is read by the address that any process handed out, under whatever name
// of the server and of whatever time; and another owner's is read by none.
func TestAddressesOfOtherProcesses(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		// What an address of another host gives, where it is asked at all.
		asked := 0
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			http.Error(w, "no leave", http.StatusForbidden)
		}))
		t.Cleanup(other.Close)
		f := startIn(t, url, t.TempDir())
		mine := f.file(small)
		theirs := f.fileOf("ann", "id,name\n7,secret\n")
		path := func(address string) string { return strings.TrimPrefix(address, publicURL) }
		for i, c := range []struct {
			name, address string
			state         registry.State
			asked         bool
		}{
			{"this name", mine, registry.Succeeded, false},
			{"another name", "https://other.example" + path(mine), registry.Succeeded, false},
			{"below a path, signed", "http://10.0.0.1:8000/specstore" + path(mine) + "?expires=1&signature=x", registry.Succeeded, false},
			{"another owner's by another host", other.URL + path(theirs), registry.Failed, true},
			{"one that is not here", other.URL + path(mine) + "0", registry.Failed, true},
		} {
			asked = 0
			r := f.upload("data"+string(rune('a'+i)), c.address)
			f.run()
			if got := f.status(r); got.State != c.state || (asked > 0) != c.asked {
				t.Errorf("%s: %s %q, the other host was asked %d times", c.name, got.State, got.Errors, asked)
			}
		}
	})
}

// A server that has moved runs again what was pushed by its earlier address.
func TestMovedServer(t *testing.T) {
	t.Parallel()
	testkit.EachDB(t, func(t *testing.T, url string) {
		t.Parallel()
		dir := t.TempDir()
		f := startIn(t, url, dir)
		begun := time.Now().UTC().Truncate(time.Second)
		f.clock(begun)
		r := testkit.Must(f.Upload(t.Context(), f.token, scheduled("lakes", f.file(small), `"every 1h"`), ""))(t)
		f.run()
		f.await(r.Revision, registry.Succeeded)
		failed := f.upload("rivers", f.file("id,name\n1,one\n"))
		if _, err := f.Registry.Cancel(t.Context(), failed.ID, "broken off"); err != nil {
			t.Fatal(err)
		}
		_ = f.DB.Close()

		moved := &fixture{T: t, Fixture: servicetest.New(t, servicetest.Options{
			Database: url, Data: dir, PublicURL: "https://moved.example", Fetch: fetch.Config{Allow: []string{"127.0.0.1"}},
		}), token: f.token}
		moved.clock(begun.Add(time.Hour))
		moved.look()
		moved.run()
		if n, _ := moved.schedule("me/lakes"); n != 2 {
			t.Errorf("%d revisions after a due time", n)
		}
		if again := testkit.Must(moved.Status(t.Context(), moved.token, "me/lakes", "2"))(t); again.State != registry.Succeeded {
			t.Errorf("the scheduled run: %s %q", again.State, again.Errors)
		}
		if done, err := moved.Retry(t.Context(), moved.token, "me/rivers", "1"); err != nil || !done {
			t.Fatal(done, err)
		}
		moved.run()
		if again := moved.status(failed); again.State != registry.Succeeded {
			t.Errorf("the retry: %s %q", again.State, again.Errors)
		}
		if text := string(moved.read("me/lakes/1/datapackage.json")); !strings.Contains(text, `"https://moved.example/pkgstore/me/lakes/`) || strings.Contains(text, publicURL) {
			t.Errorf("the descriptor is %s", text)
		}
	})
}
