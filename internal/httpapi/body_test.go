package httpapi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/testkit"
)

// pipes is a listener whose connections are pipes, for a bubble of synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// bodies is a server in a bubble whose routes have no service behind them: what gets
// beyond the body fails.
type bodies struct {
	*testing.T
	listener *pipes
	issuer   *auth.Issuer
}

type noService struct{ httpapi.Service }

func (noService) UpdateToken(flow string) string { return "token of " + flow }

var testIssuer = sync.OnceValues(func() (*auth.Issuer, error) {
	key, err := auth.GenerateKey()
	if err != nil {
		return nil, err
	}
	return auth.NewIssuer(key)
})

func newBodies(t *testing.T) *bodies {
	b := &bodies{T: t, listener: &pipes{make(chan net.Conn), make(chan struct{})}, issuer: testkit.Must(testIssuer())(t)}
	server := httpapi.NewServer(httpapi.Config{
		Service: noService{}, Verifier: &auth.Verifier{Keys: b.issuer}, Issuer: b.issuer, Raw: rawstore.New(nil, []byte("secret"), time.Now),
		PublicURL: "http://127.0.0.1:8000", UpdateToken: "operators", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	served := make(chan error, 1)
	go func() { served <- server.Serve(b.listener) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return b
}

// exchanged is what came of a request.
type exchanged struct {
	status  int           // 0 where the connection was closed without an answer
	text    string        // all that was sent
	sent    int64         // bytes of the body that were taken before the answer
	elapsed time.Duration // until the connection was closed
}

// send sends a request over a connection of its own and writes its body, until the
// server closes the connection or ten minutes have passed.
func (b *bodies) send(head string, body io.Reader) exchanged {
	b.Helper()
	client, server := net.Pipe()
	defer client.Close()
	b.listener.conns <- server
	begun := time.Now()
	var sent atomic.Int64
	written := make(chan struct{})
	go func() {
		defer close(written)
		if _, err := io.WriteString(client, head); err != nil {
			return
		}
		part := make([]byte, 1024)
		for {
			n, err := body.Read(part)
			m, werr := client.Write(part[:n])
			sent.Add(int64(m))
			if err != nil || werr != nil {
				return
			}
		}
	}()
	_ = client.SetReadDeadline(begun.Add(10 * time.Minute))
	begins := make([]byte, 1)
	_, _ = io.ReadFull(client, begins)
	e := exchanged{sent: sent.Load()}
	text, _ := io.ReadAll(io.MultiReader(bytes.NewReader(begins), client))
	e.text, e.elapsed = string(text), time.Since(begun)
	client.Close()
	<-written
	if res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil); err == nil {
		e.status = res.StatusCode
	}
	return e
}

// described returns the answer behind what says that the body is waited for, and holds it
// against openapi.yaml.
func (b *bodies) described(pattern string, e exchanged) answer {
	b.Helper()
	text := e.text
	if e.status == http.StatusContinue {
		_, text, _ = strings.Cut(text, "\r\n\r\n")
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		b.Errorf("%s: %v: %.300q", pattern, err, e.text)
		return answer{}
	}
	defer res.Body.Close()
	a := answer{res.StatusCode, res.Header, string(testkit.Must(io.ReadAll(res.Body))(b))}
	method, path, _ := strings.Cut(pattern, " ")
	testkit.Must(document())(b).check(b.T, method, path, a)
	return a
}

// endless is a body that goes on for ever.
type endless struct{ pattern string }

func (e endless) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat(e.pattern, len(p)/len(e.pattern)+1)), nil
}

// stalled ends with a pause that is longer than a test.
type stalled struct{ io.Reader }

func (s stalled) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		time.Sleep(20 * time.Minute)
	}
	return n, err
}

// trickle is a byte from time to time.
type trickle struct{ every time.Duration }

func (t trickle) Read(p []byte) (int, error) {
	time.Sleep(t.every)
	p[0] = ' '
	return 1, nil
}

func head(pattern, headers string) string {
	method, path, _ := strings.Cut(pattern, " ")
	path = strings.NewReplacer("{owner}", "me", "{dataset}", "d", "{revision}", "1", "{other}", "2", "{pipeline}", "p", "{key...}", "me/d/1/datapackage.json", "{name}", "x").Replace(path)
	return method + " " + path + " HTTP/1.1\r\nHost: specstore\r\n" + headers + "\r\n"
}

const form = "multipart/form-data; boundary=x"

func contentType(pattern string) string {
	if strings.HasSuffix(pattern, "/rawstore/o") {
		return "Content-Type: " + form + "\r\n"
	}
	return "Content-Type: application/json\r\n"
}

// chunked sends each write as a chunk.
type chunked struct{ io.Reader }

func (c chunked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p[:512])
	if n == 0 {
		return 0, err
	}
	return copy(p, fmt.Sprintf("%x\r\n%s\r\n", n, bytes.Clone(p[:n]))), err
}

// The server itself reads some of a body that nobody read before it answers, to keep the
// connection (net/http).
const readByServer = 256<<10 + 32<<10

// TestBodiesOfStrangers: on every route, whoever has no token can neither make the server
// read much, nor keep a connection by sending nothing or little, nor by taking no answer.
func TestBodiesOfStrangers(t *testing.T) {
	t.Parallel()
	for _, pattern := range httpapi.Patterns() {
		for name, c := range map[string]struct {
			headers string
			body    io.Reader
			within  time.Duration
		}{
			"long, declared":     {"Content-Length: 10000000\r\n", endless{"[{},"}, 3 * time.Second},
			"50 GB, declared":    {"Content-Length: 50000000000\r\n", endless{"[{},"}, 3 * time.Second},
			"beyond all numbers": {"Content-Length: 9000000000000000000\r\n", endless{"[{},"}, 3 * time.Second},
			"endless, chunked":   {"Transfer-Encoding: chunked\r\n", chunked{endless{"[{},"}}, 3 * time.Second},
			"stalled":            {"Content-Length: 1000\r\n", stalled{strings.NewReader(`{"meta"`)}, 15 * time.Second},
			"stalled, chunked":   {"Transfer-Encoding: chunked\r\n", stalled{chunked{strings.NewReader(`{"meta"`)}}, 15 * time.Second},
			"never begun":        {"Content-Length: 1000\r\n", stalled{strings.NewReader("")}, 15 * time.Second},
			"trickle":            {"Content-Length: 60000\r\n", trickle{time.Second / 10}, 15 * time.Second},
			"bad token":          {"Auth-Token: x.y.z\r\nContent-Length: 10000000\r\n", endless{"[{},"}, 3 * time.Second},
			"flow's token":       {"Content-Length: 4000000\r\n", endless{`{"log":[],`}, 3 * time.Second},
		} {
			t.Run(pattern+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBodies(t)
					p := pattern
					if name == "flow's token" {
						p += "?token=wrong"
					}
					e := b.send(head(p, contentType(pattern)+c.headers), c.body)
					if e.status == 0 || e.sent > 64<<10+readByServer || e.elapsed > c.within {
						t.Errorf("%d after %d bytes and %v: %.200q", e.status, e.sent, e.elapsed, e.text)
					}
				})
			})
		}
	}
}

// TestBodyStatus: what is refused says why, and unread where it can be.
func TestBodyStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t)
		token := "Auth-Token: " + testkit.Must(b.issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t) + "\r\n"
		const expect = "Expect: 100-continue\r\n"
		sized := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
		const update = "POST /source/update"
		flow := update + "?token=token+of+me/d/1"
		for _, pattern := range []string{"POST /source/upload", "POST /source/plan", update, flow, "POST /rawstore/authorize"} {
			known := token
			if pattern == update {
				known = "Authorization: Bearer operators\r\n"
			}
			for _, c := range []struct {
				name, headers string
				body          io.Reader
				status        int
				read          bool // the server asks for the body, or waits for it
			}{
				{"over the limit", sized(50e9), stalled{strings.NewReader("")}, 413, false},
				{"over the limit, known", known + sized(17<<20), stalled{strings.NewReader("")}, 413, false},
				{"unknown", sized(65537), stalled{strings.NewReader("")}, 401, false},
				{"unknown, chunked", "Transfer-Encoding: chunked\r\n", chunked{endless{`{"pipeline":"me/other/1/x",`}}, 401, true},
				{"slow", sized(1000), stalled{strings.NewReader("{")}, 408, true},
				{"slow, known", known + sized(1000000), stalled{strings.NewReader("{")}, 408, true},
				{"slower than the rate", known + sized(1000000), trickle{time.Millisecond}, 408, true},
				{"many values", known + sized(4<<20), endless{"[{},"}, 413, true},
			} {
				if pattern == flow && c.name != "over the limit" && c.name != "unknown, chunked" {
					continue // its caller is known by the body, see below
				}
				e := b.send(head(pattern, contentType(pattern)+c.headers+expect), c.body)
				if a := b.described(pattern, e); a.status != c.status {
					t.Errorf("%s, %s: %d, want %d: %.300q", pattern, c.name, a.status, c.status, e.text)
				}
				if asked := e.status == http.StatusContinue; asked != c.read {
					t.Errorf("%s, %s: asked for the body: %v, want %v", pattern, c.name, asked, c.read)
				}
				if !strings.Contains(e.text, "Connection: close") {
					t.Errorf("%s, %s: the connection is kept: %.300q", pattern, c.name, e.text)
				}
			}
		}
		// A long update whose flow is said at its beginning, with the token of that flow.
		e := b.send(head(flow, contentType(flow)+sized(2<<20)), stalled{strings.NewReader(`{"pipeline":"me/d/1/x","log":[` + strings.Repeat(`"x",`, 50_000))})
		if e.status != http.StatusRequestTimeout {
			t.Errorf("a long update with its flow's token: %.300q", e.text)
		}
		// The same of another flow.
		e = b.send(head(flow, contentType(flow)+sized(2<<20)), stalled{strings.NewReader(`{"pipeline":"me/other/1/x","log":[` + strings.Repeat(`"x",`, 50_000))})
		if e.status != http.StatusUnauthorized {
			t.Errorf("a long update with another flow's token: %.300q", e.text)
		}
	})
}

// TestSmallBodiesOfStrangers: what is wrong with a small body is said in the contract's
// order also to those without a token.
func TestSmallBodiesOfStrangers(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for _, route := range []string{"/source/upload", "/source/plan"} {
		for text, want := range map[string]struct {
			status int
			text   string
		}{
			`null`: {400, "Received empty contents"}, `{ }`: {400, "Received empty contents"}, `[]`: {400, "must be a JSON object"}, `{"a":`: {400, "line 1, column"},
			`{"meta":{"ownerid":1}}`: {400, "Missing owner in spec"}, `{"meta":{"ownerid":"me","ownerid":"me"}}`: {400, "a key is there twice"},
			`{"meta":{"ownerid":"me"},"schedule":"wrong"}`:                        {401, auth.Denied},
			`{"meta":{"ownerid":"me"},"x":` + strings.Repeat("[", 200):            {400, "nested deeper"},
			`{"meta":{"ownerid":"me"},"x":"` + strings.Repeat("x", 60<<10) + `"}`: {401, auth.Denied},
			`{"x":"` + strings.Repeat("x", 60<<10) + `"}`:                         {400, "Missing owner in spec"},
			`{"x":"` + strings.Repeat("x", 70<<10) + `"}`:                         {401, auth.Denied},
		} {
			for _, token := range []string{"", "x.y.z"} {
				s.do("POST", route, text, asJSON, "Auth-Token: "+token).checkError(t, fmt.Sprintf("%s %.60s", route, text), want.status, want.text)
			}
		}
	}
}

// TestFormOfStrangers: a form that is not signed is refused before its file is read, and
// what goes before the file is bounded.
func TestFormOfStrangers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		rest   endless
		status int
	}{
		"file first":   {"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n", endless{"data"}, 400},
		"a key alone":  {"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n", endless{"data"}, 403},
		"long header":  {"--x\r\nContent-Disposition: form-data; name=\"", endless{"name"}, 413},
		"many headers": {"--x\r\n", endless{"A: b\r\n"}, 400},
		"no boundary":  {"", endless{"data"}, 400},
		"long field":   {"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n", endless{"data"}, 400},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBodies(t)
			e := b.send(head("POST /rawstore/o", contentType("/rawstore/o")+"Content-Length: 100000000\r\n"), io.MultiReader(strings.NewReader(c.text), c.rest))
			b.described("POST /rawstore/o", e)
			if e.status != c.status || e.sent > 64<<10+16<<10 {
				t.Errorf("%s: after %d bytes: %.300q, want %d", name, e.sent, e.text, c.status)
			}
		})
	}
}

// TestRefusalArrives: who sends all of a body before it reads the answer comes to read why
// it was refused.
func TestRefusalArrives(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for range 5 {
		a := s.do("POST", "/source/upload", `{"x":"`+strings.Repeat("x", 8<<20)+`"}`, asJSON)
		a.checkError(t, "a long body", http.StatusUnauthorized, auth.Denied)
	}
}

// TestYAMLTogether: bodies that wait for room do not keep it from each other.
func TestYAMLTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t)
		text := "a: [" + strings.Repeat("{},", 20<<10) + "{}]"
		results := make(chan exchanged)
		const n = 16
		for range n {
			go func() {
				results <- b.send(head("POST /source/plan", fmt.Sprintf("Content-Type: application/yaml\r\nConnection: close\r\nContent-Length: %d\r\n", len(text))), strings.NewReader(text))
			}()
		}
		for range n {
			if e := <-results; e.status != http.StatusInternalServerError { // there is no service behind
				t.Errorf("%.300q", e.text)
			}
		}
	})
}

// TestSlowForm: a form that comes too slowly, before its file or in it.
func TestSlowForm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t)
		const pattern = "POST /rawstore/o"
		e := b.send(head(pattern, contentType(pattern)+"Content-Length: 1000000\r\n"), stalled{strings.NewReader("--x\r\n")})
		if a := b.described(pattern, e); a.status != http.StatusRequestTimeout {
			t.Errorf("%.300q", e.text)
		}
	})
}

// TestSlowReaders: who takes an answer too slowly loses the connection, and who takes it
// slowly enough gets all of it.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t)
		for _, c := range []struct {
			bytes int // a read
			whole bool
		}{{16, false}, {4096, true}} {
			client, server := net.Pipe()
			b.listener.conns <- server
			begun := time.Now()
			if _, err := io.WriteString(client, head("GET /openapi.yaml", "Connection: close\r\n")); err != nil {
				t.Fatal(err)
			}
			var got int
			var err error
			for err == nil {
				var n int
				n, err = client.Read(make([]byte, c.bytes))
				got += n
				time.Sleep(time.Second / 4)
			}
			if whole := err == io.EOF && got > 20000 && (got >= 50000 || c.whole); whole != c.whole || time.Since(begun) > 5*time.Minute {
				t.Errorf("%d bytes a read: got %d in %v: %v", c.bytes, got, time.Since(begun), err)
			}
			client.Close()
		}
	})
}

// TestHeaders: headers that come slowly, or are long, end their connection.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		rest   io.Reader
		status int
	}{
		"never begun": {"", stalled{strings.NewReader("")}, 0},
		"stalled":     {"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", stalled{strings.NewReader("b")}, 0},
		"trickle":     {"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", trickle{time.Second}, 0},
		"long":        {"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", endless{"b"}, http.StatusRequestHeaderFieldsTooLarge},
		"many":        {"GET /healthz HTTP/1.1\r\nHost: x\r\n", endless{strings.Repeat("A: b\r\n", 200)}, http.StatusRequestHeaderFieldsTooLarge},
		"long line":   {"GET /", endless{"b"}, http.StatusRequestHeaderFieldsTooLarge},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newBodies(t).send(c.text, c.rest)
			if e.status != c.status || e.elapsed > 11*time.Second || e.sent > 80<<10 {
				t.Errorf("%s: %d after %d bytes and %v: %.200q", name, e.status, e.sent, e.elapsed, e.text)
			}
		})
	}
}

// TestBodiesTogether: bodies in memory are bounded together; who finds no room is asked to
// come again, and what is given back is there for others.
func TestBodiesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBodies(t)
		token := "Auth-Token: " + testkit.Must(b.issuer.Sign(auth.Claims{UserID: "me", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t) + "\r\n"
		const length = 15 << 20
		steady := func() io.Reader { // 1 MiB a second: slow enough to be there together, fast enough to be read
			return &paced{left: length, every: time.Millisecond}
		}
		results := make(chan exchanged)
		const n = 40
		for range n {
			go func() {
				results <- b.send(head("POST /source/upload", contentType("")+token+fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n", length)), steady())
			}()
		}
		statuses := map[int]int{}
		for range n {
			e := <-results
			statuses[e.status]++
			if e.status == http.StatusServiceUnavailable && !strings.Contains(e.text, "Retry-After: ") {
				t.Errorf("%.300q", e.text)
			}
		}
		// 116 MiB hold seven of them; the others find no room, unless they come later.
		if statuses[400] < 7 || statuses[400] > 14 || statuses[400]+statuses[503] != n {
			t.Errorf("%v", statuses)
		}
		if e := b.send(head("POST /source/upload", contentType("")+token+"Content-Length: 2\r\nConnection: close\r\n"), strings.NewReader("{}")); e.status != http.StatusBadRequest {
			t.Errorf("afterwards: %.300q", e.text)
		}
	})
}

// paced is blanks, a part from time to time.
type paced struct {
	left  int
	every time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	time.Sleep(p.every)
	n := min(len(b), p.left)
	copy(b[:n], strings.Repeat(" ", n))
	if p.left -= n; p.left == 0 {
		return n, io.EOF
	}
	return n, nil
}
