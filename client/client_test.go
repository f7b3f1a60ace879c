package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server and gives a client of it that waits for nothing long.
func serve(t *testing.T, handler http.HandlerFunc) (*Client, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := New(Config{Server: server.URL, Token: "user-token", HTTPClient: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	c.first = time.Millisecond
	return c, server
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func TestNewRefusesWhatIsNoServer(t *testing.T) {
	t.Parallel()
	for _, server := range []string{
		"ftp://host", "host", "host:8000", "http://", "http://u:secret@host", "http://u:secret@ho st",
		"http://host?x=1", "http://host#x",
	} {
		if _, err := New(Config{Server: server}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", server, err)
		}
	}
	for _, token := range []string{"a b", "a\r\nHost: b", "é"} {
		if _, err := New(Config{Token: token}); err == nil {
			t.Errorf("took the token %q", token)
		}
	}
	for _, server := range []string{"", "http://127.0.0.1:1/", " https://host/base "} {
		if _, err := New(Config{Server: server}); err != nil {
			t.Errorf("%q: %v", server, err)
		}
	}
}

const aStatus = `{"id":"me/id/1","spec_contents":{"meta":{}},"modified":"2026-01-02T03:04:05.123456Z","state":"SUCCEEDED",
	"logs":["a: b"],"error_log":[],"stats":{"bytes":10,"count_of_rows":3,"dataset_name":"id","hash":"sha256:00"},
	"pipelines":{"me/id/1/a_csv":{"title":"Creating CSV","status":"SUCCEEDED","stats":{".dpp":{"x":1}},"error_log":[],
	"started":"2026-01-02T03:04:05Z","finished":null,"progress":{"rows":1,"bytes":2,"total_bytes":3},"reused":null}},
	"created":"2026-01-02T03:04:00Z","attempt":1,"outcome":null,"certified":false,
	"links":{"self":"s","events":"e","page":"p","package":"k"}, "more":true}`

func TestStatus(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Auth-Token") != "user-token" || r.Header.Get("Authorization") != "" {
			t.Errorf("headers %v", r.Header)
		}
		switch r.URL.EscapedPath() {
		case "/source/me/id/latest":
			reply(w, 200, aStatus)
		case "/source/m%20e/Z%C3%BCrich%3F/%2F1":
			reply(w, 404, `{"error":{"message":"no such thing"}}`)
		default:
			t.Errorf("path %s", r.URL.EscapedPath())
		}
	})
	got, err := c.Status(t.Context(), "me/id", "")
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Raw) != aStatus {
		t.Errorf("raw %s", got.Raw)
	}
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := &Status{
		ID: "me/id/1", SpecContents: json.RawMessage(`{"meta":{}}`), State: Succeeded, Created: started.Add(-5 * time.Second),
		Modified: started.Add(123456 * time.Microsecond), Attempt: 1, Logs: []string{"a: b"}, ErrorLog: []string{},
		Stats: &Stats{Bytes: 10, Rows: 3, DatasetName: "id", Hash: "sha256:00"},
		Pipelines: map[string]Pipeline{"me/id/1/a_csv": {
			Title: "Creating CSV", Status: Succeeded, Stats: json.RawMessage(`{".dpp":{"x":1}}`),
			ErrorLog: []string{}, Started: &started, Progress: &Progress{1, 2, 3},
		}},
		Links: Links{"s", "e", "p", "k"}, Raw: got.Raw,
	}
	if !reflect.DeepEqual(got, want) || !got.Ended() {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	_, err = c.Status(t.Context(), "m e/Zürich?", "/1")
	if StatusCode(err) != 404 || err.Error() != "the server answers 404: no such thing" {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "me", "me/", "/id", "me/id/1", "../id", "me/.."} {
		if _, err := c.Status(t.Context(), bad, "1"); err == nil || StatusCode(err) != 0 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestServerBelowAPath(t *testing.T) {
	t.Parallel()
	c, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/source/me/id/1" {
			t.Errorf("path %s", r.URL.Path)
		}
		reply(w, 200, aStatus)
	})
	below, err := New(Config{Server: server.URL + "/base/", HTTPClient: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Client{below, below.WithToken(c.token)} {
		if _, err := c.Status(t.Context(), "me/id", "1"); err != nil {
			t.Error(err)
		}
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	spec := map[string]any{"meta": map[string]any{"ownerid": "me"}}
	const text = `{"meta":{"ownerid":"me"}}`
	var answer, key atomic.Value
	var keys sync.Map
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != text || r.Method != http.MethodPost || r.URL.Path != "/source/upload" ||
			r.Header.Get("Content-Type") != "application/json" || key.Load() != "" && r.Header.Get("Idempotency-Key") != key.Load() {
			t.Errorf("%s %s %q %v %v", r.Method, r.URL, body, r.Header, err)
		}
		if k := r.Header.Get("Idempotency-Key"); key.Load() == "" {
			if _, again := keys.LoadOrStore(k, true); again || len(k) < 20 {
				t.Errorf("got the key %q, want one of its own for each upload", k)
			}
		}
		a, _ := answer.Load().([2]any)
		status, _ := a[0].(int)
		body2, _ := a[1].(string)
		reply(w, status, body2)
	})
	key.Store("")
	answer.Store([2]any{200, `{"success":true,"dataset_id":"me/id","flow_id":"me/id/12","errors":[]}`})
	for _, form := range []any{spec, text, []byte(text), json.RawMessage(text)} {
		got, err := c.Upload(t.Context(), form, "")
		if err != nil {
			t.Fatal(err)
		}
		if *got != (UploadResult{"me/id", "me/id/12"}) || got.Revision() != "12" {
			t.Errorf("got %+v", got)
		}
	}
	key.Store("k 1")
	if _, err := c.Upload(t.Context(), spec, "k 1"); err != nil {
		t.Error(err)
	}
	if _, err := c.Upload(t.Context(), spec, "k\n1"); err == nil {
		t.Error("took a key with a line end")
	}
	for _, status := range []int{200, 400, 403} { // the original refuses with 200
		answer.Store([2]any{status, `{"success":false,"dataset_id":null,"flow_id":null,"errors":["one","two\u001b[2J"]}`})
		_, err := c.Upload(t.Context(), spec, "k 1")
		refusal, ok := errors.AsType[*Error](err)
		if !ok || refusal.Status != status || refusal.Message != "one\ntwo[2J" || !reflect.DeepEqual(refusal.Errors, []string{"one", "two[2J"}) {
			t.Errorf("%d: %#v", status, err)
		}
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	type do = func(context.Context, *Client) error
	status := func(ctx context.Context, c *Client) error { _, err := c.Status(ctx, "me/id", "1"); return err }
	once := func(ctx context.Context, c *Client) error { _, err := c.Upload(ctx, "{}", ""); return err }
	keyed := func(ctx context.Context, c *Client) error { _, err := c.Upload(ctx, "{}", "k"); return err }
	raw := func(ctx context.Context, c *Client) error { _, err := c.AuthorizeRaw(ctx, "me", nil); return err }
	cancel := func(ctx context.Context, c *Client) error { return c.Cancel(ctx, "me/id", "1") }
	for _, test := range []struct {
		name   string
		do     do
		status int // 0: the connection breaks
		after  string
		want   int32
	}{
		{"status, broken", status, 0, "", maxTries},
		{"status, 502", status, 502, "", maxTries},
		{"status, 503", status, 503, "", maxTries},
		{"status, 429", status, 429, "0", maxTries},
		{"status, 500", status, 500, "", 1},
		{"status, 404", status, 404, "", 1},
		{"status, later than is waited for", status, 503, "3600", 1},
		{"upload, broken", once, 0, "", maxTries},
		{"upload, 502", once, 502, "", maxTries},
		{"upload, 503", once, 503, "", maxTries},
		{"upload, 503 with nonsense", once, 503, "soon", maxTries},
		{"upload, 500", once, 500, "", 1},
		{"upload with a key, broken", keyed, 0, "", maxTries},
		{"upload with a key, 504", keyed, 504, "", maxTries},
		{"leave for files", raw, 503, "", maxTries},
		{"cancel", cancel, 0, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			var key atomic.Value
			c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if got := r.Header.Get("Idempotency-Key"); !key.CompareAndSwap(nil, got) && key.Load() != got {
					t.Errorf("got the key %q after %q, want one for all repeats", got, key.Load())
				}
				if test.status == 0 {
					panic(http.ErrAbortHandler)
				}
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				reply(w, test.status, `{"error":{"message":"no"}}`)
			})
			err := test.do(t.Context(), c)
			if StatusCode(err) != test.status || err == nil {
				t.Errorf("got %v", err)
			}
			if got := asked.Load(); got != test.want {
				t.Errorf("asked %d times, want %d", got, test.want)
			}
		})
	}
}

func TestWaitsAsLongAsAskedFor(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			reply(w, 503, `{}`)
			return
		}
		reply(w, 200, `{"success":true,"dataset_id":"me/id","flow_id":"me/id/1"}`)
	})
	began := time.Now()
	if _, err := c.Upload(t.Context(), "{}", ""); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("asked again after %v", took)
	}
	asked.Store(0)
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	if _, err := c.Upload(ctx, "{}", ""); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, kind, body, want string
		status                 int
	}{
		{"message", "application/json", `{"error":{"message":"bad \u0007\u202etoken"}}`, "bad token", 401},
		{"plain", "text/plain; charset=utf-8", "over the limit\n", "over the limit", 413},
		{"page", "text/html", "<html>", "Internal Server Error", 500},
		{"empty", "application/json", "", "Forbidden", 403},
		{"error is a text", "application/json", `{"error":"x","errors":["y"]}`, "y", 400},
		{"huge", "text/plain", strings.Repeat("x", 1<<20), strings.Repeat("x", maxErrorText), 400},
		{"no name", "", "", "no reason given", 499},
	} {
		c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", test.kind)
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		_, err := c.Status(t.Context(), "me/id", "1")
		if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Message != test.want || refusal.Status != test.status {
			t.Errorf("%s: %.100v", test.name, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var strayed atomic.Bool
	_, other := serve(t, func(http.ResponseWriter, *http.Request) { strayed.Store(true) })
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.Status(t.Context(), "me/id", "1")
	if StatusCode(err) != http.StatusTemporaryRedirect || strayed.Load() {
		t.Errorf("got %v, token sent along: %v", err, strayed.Load())
	}
	if _, err := c.Upload(t.Context(), "{}", "k"); StatusCode(err) != http.StatusTemporaryRedirect ||
		!strings.Contains(err.Error(), other.URL) || strayed.Load() {
		t.Errorf("got %v, token sent along: %v", err, strayed.Load())
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		blank := bytes.Repeat([]byte(" "), 1<<20)
		for range maxAnswer>>20 + 1 {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
	})
	if _, err := c.Status(t.Context(), "me/id", "1"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	var answer atomic.Value
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.String() {
		case "/auth/check", "/auth/authorize?service=source":
		default:
			t.Errorf("asked for %s", r.URL)
		}
		body, _ := answer.Load().(string)
		reply(w, 200, body)
	})
	answer.Store(`{"authenticated":true,"profile":{"id":"me","username":"mine","email":"e","name":"n","avatar_url":"a"}}`)
	user, err := c.Check(t.Context())
	if err != nil || *user != (User{ID: "me", Username: "mine", Email: "e", Name: "n", AvatarURL: "a"}) {
		t.Errorf("got %+v, %v", user, err)
	}
	for _, body := range []string{`{"authenticated":false,"providers":{}}`, `{"authenticated":true}`, `{}`} {
		answer.Store(body)
		if _, err := c.Check(t.Context()); StatusCode(err) != 401 {
			t.Errorf("%s: %v", body, err)
		}
		if _, err := c.Authorize(t.Context(), "source"); StatusCode(err) != 401 {
			t.Errorf("%s: %v", body, err)
		}
	}
	answer.Store(`{"token":"t","userid":"me","permissions":{},"service":"source"}`)
	if token, err := c.Authorize(t.Context(), "source"); err != nil || token != "t" {
		t.Errorf("got %q, %v", token, err)
	}
}

func TestRawFiles(t *testing.T) {
	t.Parallel()
	content := []byte("a,b\r\n1,2\r\n")
	sum := md5.Sum(content)
	path := filepath.Join(t.TempDir(), `odd "name".csv`)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	described, err := DescribeFile(path)
	if want := (File{Name: filepath.Base(path), Length: 10, MD5: base64.StdEncoding.EncodeToString(sum[:])}); err != nil || described != want {
		t.Fatalf("got %+v, %v", described, err)
	}

	var got atomic.Int32
	var fail atomic.Int32
	c, server := serve(t, nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /rawstore/authorize":
			var body struct {
				Metadata map[string]string
				Filedata map[string]File
			}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Metadata["owner"] != "me" || body.Filedata["data/x.csv"] != described {
				t.Errorf("%+v, %v", body, err)
			}
			reply(w, 200, fmt.Sprintf(`{"filedata":{"data/x.csv":{"upload_url":%q,"upload_query":{"key":"me/k","Content-Type":"text/csv","policy":"p"},"exists":false}}}`,
				server.URL+"/rawstore/o"))
		case "GET /rawstore/presign":
			if q := r.URL.Query(); q.Get("ownerid") != "me" || q.Get("url") != server.URL+"/rawstore/o/me/k+1" {
				t.Errorf("query %v", q)
			}
			reply(w, 200, `{"url":"signed"}`)
		case "POST /rawstore/o":
			if fail.Add(-1) >= 0 {
				panic(http.ErrAbortHandler)
			}
			if r.Header.Get("Auth-Token") != "" || len(r.TransferEncoding) > 0 || r.ContentLength < int64(len(content)) {
				t.Errorf("%v %v %d", r.Header, r.TransferEncoding, r.ContentLength)
			}
			form, err := r.MultipartReader()
			if err != nil {
				t.Error(err)
				return
			}
			var fields []string
			for {
				part, err := form.NextPart()
				if err == io.EOF {
					break
				}
				if err != nil {
					w.WriteHeader(400)
					return
				}
				text, err := io.ReadAll(part)
				if err != nil {
					w.WriteHeader(400)
					return
				}
				fields = append(fields, part.FormName())
				if part.FormName() == "file" && (!bytes.Equal(text, content) || part.Header.Get("Content-Type") != "text/csv" || part.FileName() == "") {
					t.Errorf("part %v %q", part.Header, text)
				}
			}
			if strings.Join(fields, " ") != "Content-Type key policy file" {
				t.Errorf("fields %v", fields)
			}
			got.Add(1)
			w.WriteHeader(http.StatusNoContent)
		default:
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
	})

	leave, err := c.AuthorizeRaw(t.Context(), "me", map[string]File{"data/x.csv": described})
	if err != nil {
		t.Fatal(err)
	}
	upload := leave["data/x.csv"]
	if upload.ObjectURL() != server.URL+"/rawstore/o/me/k" || upload.Exists {
		t.Errorf("got %+v", upload)
	}
	if err := c.UploadRaw(t.Context(), upload, "x.csv", io.MultiReader(bytes.NewReader(content), strings.NewReader("more")), 10); err != nil || got.Load() != 1 {
		t.Errorf("%v, %d files", err, got.Load())
	}
	fail.Store(2)
	if err := c.UploadRawFile(t.Context(), upload, path); err != nil || got.Load() != 2 {
		t.Errorf("%v, %d files", err, got.Load())
	}
	fail.Store(1)
	if err := c.UploadRaw(t.Context(), upload, "x.csv", bytes.NewReader(content), 10); err == nil {
		t.Error("a body that was read once was sent again")
	}
	fail.Store(0)
	if err := c.UploadRaw(t.Context(), upload, "x.csv", bytes.NewReader(content), 11); err == nil || got.Load() != 2 {
		t.Errorf("a short body: %v, %d files", err, got.Load())
	}
	if err := c.UploadRawFile(t.Context(), upload, t.TempDir()); err == nil {
		t.Error("sent a folder")
	}
	upload.URL = "file:///etc/passwd"
	if err := c.UploadRawFile(t.Context(), upload, path); err == nil {
		t.Error("sent a file to a file")
	}
	if signed, err := c.Presign(t.Context(), "me", server.URL+"/rawstore/o/me/k+1"); err != nil || signed != "signed" {
		t.Errorf("got %q, %v", signed, err)
	}
}

func TestLeaveMustBeWhole(t *testing.T) {
	t.Parallel()
	var answer atomic.Value
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := answer.Load().(string)
		reply(w, 200, body)
	})
	for _, body := range []string{
		`{}`, `{"filedata":{"b":{"upload_url":"u","upload_query":{"key":"k"}}}}`,
		`{"filedata":{"a":{"upload_url":"u","upload_query":{}}}}`, `{"filedata":{"a":{"upload_query":{"key":"k"}}}}`,
		`{"filedata":{"a":{"upload_url":"u","upload_query":{"key":"k"}},"b":{}}}`,
	} {
		answer.Store(body)
		if got, err := c.AuthorizeRaw(t.Context(), "me", map[string]File{"a": {}}); err == nil {
			t.Errorf("%s: %v", body, got)
		}
	}
}

// endless gives zeros and counts how many were taken.
type endless struct{ taken atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

func TestLargeFilesAreStreamed(t *testing.T) {
	t.Parallel()
	const size = 256 << 20
	source := new(endless)
	c, server := serve(t, nil)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server looks at the head of the body while most of it is not read yet.
		if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
			t.Error(err)
		}
		if taken := source.taken.Load(); taken > size/2 {
			t.Errorf("%d bytes were read ahead", taken)
		}
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n < size-1<<20 {
			t.Errorf("%d bytes, %v", n, err)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	upload := RawUpload{URL: server.URL + "/o", Fields: map[string]string{"key": "k"}}
	if err := c.UploadRaw(t.Context(), upload, "zeros", source, size); err != nil {
		t.Error(err)
	}
}

func TestActs(t *testing.T) {
	t.Parallel()
	var asked atomic.Value
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.URL.Path)
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "{}\n{}\n")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	for want, do := range map[string]func() error{
		"POST /source/me/id/3/cancel": func() error { return c.Cancel(t.Context(), "me/id", "3") },
		"POST /source/me/id/3/retry":  func() error { return c.Retry(t.Context(), "me/id", "3") },
		"DELETE /source/me/id":        func() error { return c.Delete(t.Context(), "me/id") },
		"POST /source/me/id/restore":  func() error { return c.Restore(t.Context(), "me/id") },
		"GET /source/me/id/3/pipelines/a_csv/log": func() error {
			log, err := c.Log(t.Context(), "me/id", "3", "a_csv")
			if err != nil {
				return err
			}
			text, err := io.ReadAll(log)
			if string(text) != "{}\n{}\n" {
				t.Errorf("log %q", text)
			}
			return errors.Join(err, log.Close())
		},
	} {
		if err := do(); err != nil || asked.Load() != want {
			t.Errorf("%s: asked for %v, %v", want, asked.Load(), err)
		}
	}
}
