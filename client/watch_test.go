package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// flow is a server of one flow: each stream that is opened gets the next script,
// and when the scripts are out the flow has ended.
type flow struct {
	mu      sync.Mutex
	scripts []func(w http.ResponseWriter, r *http.Request)
	last    []string // Last-Event-ID of each stream
}

func (f *flow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	ended := len(f.scripts) == 0
	if !strings.HasSuffix(r.URL.Path, "/events") {
		f.mu.Unlock()
		state := InProgress
		if ended {
			state = Failed
		}
		reply(w, 200, fmt.Sprintf(`{"id":"me/id/7","state":%q}`, state))
		return
	}
	f.last = append(f.last, r.URL.Path+" "+r.Header.Get("Last-Event-ID"))
	script := send("")
	if !ended {
		script, f.scripts = f.scripts[0], f.scripts[1:]
	}
	f.mu.Unlock()
	script(w, r)
}

// send is a stream that brings the text and ends.
func send(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, text)
	}
}

// cut is a stream that brings the text and breaks.
func cut(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		send(text)(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func refuse(status int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, status, `{"error":{"message":"no"}}`) }
}

func collect(ctx context.Context, c *Client, rev string) (events []string, err error) {
	for event, failure := range c.Watch(ctx, "me/id", rev) {
		if failure != nil {
			return events, failure
		}
		events = append(events, event.ID+" "+event.Kind+" "+string(event.Data))
	}
	return events, nil
}

func TestWatch(t *testing.T) {
	t.Parallel()
	type scripts = []func(http.ResponseWriter, *http.Request)
	const one, two, three = "id: 1\nevent: start\ndata: {\"a\":1}\n\n", "id:2\r\ndata:{\r\ndata:}\r\n\r\n", ": hello\nid: 3\nevent: finish\ndata: {}\n\n"
	all := []string{`1 start {"a":1}`, "2 message {\n}", "3 finish {}"}
	many := func(n int, script func(http.ResponseWriter, *http.Request)) (list scripts) {
		for range n {
			list = append(list, script)
		}
		return list
	}
	for _, test := range []struct {
		name    string
		scripts scripts
		want    []string
		last    string // what the streams asked for
		status  int    // of the error at the end
	}{
		{"in one go", scripts{send(one + two + three)}, all, ",3", 0},
		{"the server says it is all", scripts{send(one), refuse(204)}, all[:1], ",1", 0},
		{"the server stops between", scripts{send(one), send(two), send(three)}, all, ",1,2,3", 0},
		{"broken within an event", scripts{cut(one + "id: 2\ndata: {"), cut(two), send(three)}, all, ",1,2,3", 0},
		{"the end of an event is lost", scripts{send(one + "id: 2\ndata: {\ndata:"), send(two + three)}, all, ",1,3", 0},
		{"everything comes again", scripts{cut(one + two), send(one + two + three)}, all, ",2,3", 0},
		{
			"events without an ID",
			scripts{send("data: x\n\n" + one + "data: y\n\nevent: p\ndata: z\n\n"), send(one + two)},
			[]string{" message x", all[0], "1 message y", "1 p z", all[1]},
			",1,2", 0,
		},
		{
			"gateways fail", append(scripts{send(one)}, append(many(maxReconnects-1, refuse(502)), send(two+three))...), all,
			",1" + strings.Repeat(",1", maxReconnects-1) + ",3", 0,
		},
		{
			"gateways fail for good", append(scripts{send(one)}, many(20, refuse(502))...), all[:1],
			"," + strings.Repeat(",1", maxReconnects)[1:], 502,
		},
		{"forbidden", scripts{send(one), refuse(403), send(two)}, all[:1], ",1", 403},
		{"a page", scripts{func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, send(one)}, nil, "", 406},
	} {
		for _, rev := range []string{"7", "latest"} {
			t.Run(test.name+" "+rev, func(t *testing.T) {
				t.Parallel()
				server := &flow{scripts: append(scripts(nil), test.scripts...)}
				c, _ := serve(t, server.ServeHTTP)
				got, err := collect(t.Context(), c, rev)
				if StatusCode(err) != test.status || (err != nil) != (test.status != 0) {
					t.Errorf("error %v", err)
				}
				if strings.Join(got, "|") != strings.Join(test.want, "|") {
					t.Errorf("got %q, want %q", got, test.want)
				}
				var last []string
				for _, l := range server.last {
					id, ok := strings.CutPrefix(l, "/source/me/id/7/events ")
					if !ok {
						t.Errorf("asked for %s", l)
					}
					last = append(last, id)
				}
				if test.status != 502 && strings.Join(last, ",") != test.last {
					t.Errorf("asked after %q, want %q", strings.Join(last, ","), test.last)
				}
				if test.status == 502 && len(last) != 1+maxReconnects {
					t.Errorf("asked %d times", len(last))
				}
			})
		}
	}
}

func TestWatchEndsWithItsConsumer(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	open := func(w http.ResponseWriter, r *http.Request) {
		send("id: 1\ndata: {}\n\nid: 2\ndata: {}\n\n")(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}
	c, _ := serve(t, (&flow{scripts: []func(http.ResponseWriter, *http.Request){open, open}}).ServeHTTP)
	for event, err := range c.Watch(t.Context(), "me/id", "7") {
		if err != nil || event.ID != "1" {
			t.Errorf("got %+v, %v", event, err)
		}
		break
	}
	<-gone
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	n := 0
	for _, err := range c.Watch(ctx, "me/id", "7") {
		if n++; n == 2 {
			cancel(why)
		}
		if n == 3 && !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	}
	if n != 3 {
		t.Errorf("%d items", n)
	}
	<-gone
}

func TestWatchLeavesSilentStreams(t *testing.T) {
	t.Parallel()
	var streams atomic.Int32
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			state := InProgress
			if streams.Load() > 1 {
				state = Succeeded
			}
			reply(w, 200, fmt.Sprintf(`{"id":"me/id/7","state":%q}`, state))
			return
		}
		n := streams.Add(1)
		send(fmt.Sprintf("id: %d\ndata: {}\n\n", n))(w, r)
		if n == 1 {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	c.idle = 200 * time.Millisecond
	n := 0
	for _, err := range c.Watch(t.Context(), "me/id", "7") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			time.Sleep(2 * c.idle) // a slow consumer is not a silent server
		}
	}
	if n != 3 {
		t.Errorf("%d events, want one of each of 3 streams", n)
	}
}

func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a line":   "data: " + strings.Repeat("x", maxEvent+1),
		"an event": strings.Repeat("data: "+strings.Repeat("x", 1<<10)+"\n", 5<<10),
	} {
		w := &watch{client: &Client{}, yield: func(Event, error) bool { t.Errorf("%s: an event came", name); return true }}
		if err := w.read(linesOf(strings.NewReader(text + "\n\n"))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func linesOf(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReader(r), wait: func() {}, done: func() {}}
}

// However the stream is cut into pieces, and whatever ends its lines, the
// events are the same.
func FuzzEvents(f *testing.F) {
	f.Add("id: 1\nevent: start\ndata: {}\n\n: x\nretry: 10\ndata\ndata: a\n\n")
	f.Add("\ufeffdata: a\r\n\r\nid: 99999999999999999999\ndata:b\r\r")
	f.Fuzz(func(t *testing.T, text string) {
		events := func(r io.Reader) string {
			var b strings.Builder
			w := &watch{client: &Client{}, yield: func(e Event, err error) bool {
				fmt.Fprintf(&b, "%q %q %q %v\n", e.ID, e.Kind, e.Data, err)
				return true
			}}
			if err := w.read(linesOf(r)); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		want := events(strings.NewReader(text))
		if got := events(iotest.OneByteReader(strings.NewReader(text))); got != want {
			t.Errorf("in pieces: %s\nwhole: %s", got, want)
		}
		if !strings.Contains(text, "\r") {
			for _, end := range []string{"\r", "\r\n"} {
				if got := events(strings.NewReader(strings.ReplaceAll(text, "\n", end))); got != want {
					t.Errorf("with %q: %s\nwith \\n: %s", end, got, want)
				}
			}
		}
	})
}
