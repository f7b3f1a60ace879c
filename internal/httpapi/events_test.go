package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// TestTooManyWatchers: from one public address, and not from others or from proxies of
// one's own.
func TestTooManyWatchers(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	flow := s.create("me", "a", "published", registry.External).ID
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watch := func(address string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/source/"+flow+"/events", http.NoBody).WithContext(ctx)
		r.RemoteAddr = address
		began := &begun{ResponseRecorder: httptest.NewRecorder(), yes: make(chan struct{})}
		ended := make(chan struct{})
		watching.Go(func() {
			defer close(ended)
			s.http.Config.Handler.ServeHTTP(began, r)
		})
		select {
		case <-began.yes: // and goes on
		case <-ended:
		}
		return began.ResponseRecorder
	}
	for i := range httpapi.MaxWatchersAddress + 1 {
		for _, address := range []string{"203.0.113.1:%d", "[2001:db8::%d]:1"} { // of IPv6 a network
			w := watch(fmt.Sprintf(address, i+1))
			if i < httpapi.MaxWatchersAddress {
				continue
			}
			a := answer{w.Code, w.Header(), w.Body.String()}
			a.checkError(t, address, http.StatusTooManyRequests, "100 readers watch events from your address")
			testkit.Must(document())(t).check(t, "GET", "/source/"+flow+"/events", a)
		}
		for _, address := range []string{"127.0.0.1:%d", "[::1]:%d", "10.0.0.1:%d", fmt.Sprintf("198.51.100.%d:1", i+1)} {
			if strings.Contains(address, "%d") {
				address = fmt.Sprintf(address, i+1)
			}
			if w := watch(address); w.Code != http.StatusOK {
				t.Fatalf("%s: %d %s", address, w.Code, w.Body)
			}
		}
	}
	cancel()
	watching.Wait()
	ctx = t.Context() // places are free again
	w := watch("203.0.113.1:1")
	s.stop()
	watching.Wait()
	if w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

// begun says that a stream has begun.
type begun struct {
	*httptest.ResponseRecorder
	once sync.Once
	yes  chan struct{}
}

func (b *begun) Write(p []byte) (int, error) {
	n, err := b.ResponseRecorder.Write(p)
	if strings.Contains(string(p), "id: 1\n") {
		b.once.Do(func() { close(b.yes) }) // the answer is looked at from here on
	}
	return n, err
}

// TestWatchersTogether: all together are bounded, too.
func TestWatchersTogether(t *testing.T) {
	t.Parallel()
	enter := httpapi.Watchers()
	var leave func()
	for i := range httpapi.MaxWatchers {
		var err error
		if leave, err = enter(fmt.Sprintf("10.%d.%d.1:1", i>>8, i&255)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := enter("127.0.0.1:1"); httpapi.StatusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("one more: %v", err)
	}
	leave()
	if _, err := enter("127.0.0.1:1"); err != nil {
		t.Errorf("after one has left: %v", err)
	}
}

// TestWatcherMemory: an idle watcher takes no more than its connection and a small stack.
func TestWatcherMemory(t *testing.T) {
	s := start(t, options{})
	flow := s.create("me", "a", "published", registry.External).ID
	const n = 400
	resident := func() int64 {
		runtime.GC()
		runtime.GC() // stacks shrink by halves
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	open := func() net.Conn {
		conn := testkit.Must((&net.Dialer{}).DialContext(t.Context(), "tcp", s.http.Listener.Addr().String()))(t)
		fmt.Fprintf(conn, "GET /source/%s/events HTTP/1.1\r\nHost: x\r\nX-Filler: %s\r\n\r\n", flow, strings.Repeat("x", 4000))
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		in := bufio.NewReader(io.LimitReader(conn, 1<<20))
		res := testkit.Must(http.ReadResponse(in, nil))(t)
		if h := res.Header; res.StatusCode != http.StatusOK || h.Get("X-Accel-Buffering") != "no" || h.Get("Content-Type") != "text/event-stream" || h.Get("X-Content-Type-Options") != "nosniff" || !res.Close {
			t.Fatalf("%d %v", res.StatusCode, h)
		}
		body := bufio.NewReader(res.Body)
		for line := ""; line != "id: 3\n"; {
			line = testkit.Must(body.ReadString('\n'))(t)
		}
		return conn
	}
	open().Close()
	before := resident()
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = open()
	}
	var each int64
	for range 20 { // until those who serve have come to rest
		if each = (resident() - before) / n; each < 12<<10 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, c := range conns {
		c.Close()
	}
	if each >= 12<<10 { // both ends of a connection and what the test keeps included
		t.Errorf("a watcher takes %d bytes", each)
	}
}
