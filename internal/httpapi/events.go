package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
)

// Bounds of those who watch events at the same time.
const (
	maxWatchers        = 10_000
	maxWatchersAddress = 100 // from one public address; of IPv6 from one /64

	keepAlive = 15 * time.Second
)

// errWatchers is what too many watchers from one address fail with.
var errWatchers = errors.New("httpapi: too many watchers from one address")

// watchers counts those who watch. The zero value has none.
type watchers struct {
	mu      sync.Mutex
	all     int
	address map[netip.Prefix]int
}

// enter admits a watcher from an address, until leave is called. Addresses of this machine
// and of private networks are those of proxies, behind which many are: they have no limit
// of their own.
func (n *watchers) enter(remote string) (leave func(), err error) {
	var from netip.Prefix
	if at, err := netip.ParseAddrPort(remote); err == nil {
		from = networkOf(at.Addr().Unmap())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all >= maxWatchers {
		return nil, errs.New(errs.Unavailable, "httpapi.events", "%d readers watch events here; try again later", maxWatchers)
	}
	if from.IsValid() {
		if n.address[from] >= maxWatchersAddress {
			return nil, errs.Wrap(errWatchers, errs.Unavailable, "httpapi.events", "%d readers watch events from your address; try again later", maxWatchersAddress)
		}
		if n.address == nil {
			n.address = map[netip.Prefix]int{}
		}
		n.address[from]++
	}
	n.all++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.all--
		if from.IsValid() {
			if n.address[from]--; n.address[from] == 0 {
				delete(n.address, from)
			}
		}
	}, nil
}

// networkOf is what watchers are counted by; invalid for an address without a limit.
func networkOf(a netip.Addr) netip.Prefix {
	if !a.IsValid() || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		return netip.Prefix{}
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// until is a context that ends with a channel.
type until struct {
	context.Context
	stop <-chan struct{}
}

func (u until) Done() <-chan struct{} { return u.stop }

func (u until) Err() error {
	select {
	case <-u.stop:
		return context.Canceled
	default:
		return nil
	}
}

// watcher is somebody who watches a flow.
type watcher struct {
	api     *api
	base    base
	token   string
	dataset string
	number  string
	flow    string
	after   int64 // the event that was sent last
	send    func([]byte) error
}

// events streams the changes of a flow as Server-Sent Events (HTML Living Standard,
// section 9.2) until it has ended or the reader goes. A reader that comes back says
// with Last-Event-ID where it was.
//
// Ten thousand may wait for events that are rare. What the server keeps of a request is
// too much for that, so a watcher of an open flow takes the connection over: of it there
// are the connection and a goroutine with a small stack.
func (a *api) events(w http.ResponseWriter, r *http.Request) error {
	dataset, which := datasetOf(r)
	token := auth.FromRequest(r)
	rev, err := a.Service.Standing(r.Context(), token, dataset, which)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return nil
	}
	after, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	if rev.State.Ended() && after > 0 {
		list, err := a.Events.Events(r.Context(), rev.ID, after)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			// A reader that has all of it must not come back (section 9.2.3).
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	leave, err := a.watchers.enter(r.RemoteAddr)
	if err != nil {
		return err
	}
	watch := &watcher{
		api: a, base: a.base(r), token: strings.Clone(token), dataset: rev.DatasetID, number: strconv.FormatInt(rev.Number, 10), flow: rev.ID, after: after,
	}
	if !rev.State.Ended() {
		if conn := takeOver(w); conn != nil {
			a.streams.Go(func() {
				defer leave()
				defer func() { _ = conn.Close() }() // the reader may have gone
				watch.send = func(b []byte) error {
					_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
					_, err := conn.Write(b)
					return err
				}
				watch.run(until{context.Background(), a.Stopping}, apart)
			})
			return nil
		}
	}
	defer leave()
	flush := http.NewResponseController(w)
	watch.send = func(b []byte) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		return flush.Flush()
	}
	watch.run(r.Context(), func(f func()) { f() })
	return nil
}

// apart runs a function on a stack of its own, and waits for it: the one of a goroutine
// that has asked a database stays large.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// takeOver takes a connection from the server, and writes the head of an answer that ends
// with the connection. It is nil where that cannot be.
func takeOver(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n", http.StatusOK, http.StatusText(http.StatusOK), time.Now().UTC().Format(http.TimeFormat))
	_ = w.Header().Write(&b) // to memory
	b.WriteString("\r\n")
	_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, _ = conn.Write(b.Bytes()) // a reader that has gone is seen at the next write
	return conn
}

// run sends events until the flow has ended, the reader has gone or ctx ends. apart runs
// what takes a large stack.
func (s *watcher) run(ctx context.Context, apart func(func())) {
	changes, cancel := s.api.Events.Watch(s.flow)
	defer cancel()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		over := true
		apart(func() { over = s.news(ctx) })
		if over {
			return
		}
		// An idle reader costs a line from time to time and asks the registry nothing.
		for changed := false; !changed; {
			select {
			case <-changes:
				changed = true
			case <-alive.C:
				if s.send([]byte(": alive\n\n")) != nil {
					return
				}
			case <-ctx.Done():
				return
			case <-s.api.Stopping:
				return
			}
		}
	}
}

// news sends what has happened. It reports whether that was the end.
func (s *watcher) news(ctx context.Context) (over bool) {
	// The state is read before the events, so none is missed after the end.
	rev, err := s.api.Service.Standing(ctx, s.token, s.dataset, s.number)
	if err != nil {
		return true // gone, or the reader is
	}
	for {
		list, err := s.api.Events.Events(ctx, s.flow, s.after)
		if err != nil {
			return true
		}
		var b bytes.Buffer
		for _, e := range list {
			data, err := eventData(s.base, rev, e)
			if err != nil {
				return true
			}
			fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, data)
			s.after = e.Seq
		}
		if len(list) == 0 {
			break
		}
		if s.send(b.Bytes()) != nil {
			return true
		}
	}
	if !rev.State.Ended() {
		return false
	}
	state, _ := apiState(rev.State)
	_ = s.send(fmt.Appendf(nil, "event: end\ndata: {\"state\":%q}\n\n", state)) // the reader may have gone
	return true
}
