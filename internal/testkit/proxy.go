package testkit

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

const socketName = ".s.PGSQL.5432"

// Proxy stands between a process and PostgreSQL: it passes what both send, and can be
// taken away, hold all bytes, or lose one answer. It ends with its test.
type Proxy struct {
	// URL is the database's, through the proxy.
	URL string

	t            testing.TB
	socket, real string
	listener     net.Listener
	wg           sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
	held chan struct{} // closed where bytes pass
	cut  bool          // the answer to what is sent next is lost
}

// NewProxy starts a proxy before a database. Where that has no socket that a test can stand
// before the test is skipped.
func NewProxy(t testing.TB, database string) *Proxy {
	t.Helper()
	u := Must(url.Parse(database))(t)
	q := u.Query()
	if !filepath.IsAbs(q.Get("host")) {
		t.Skip("the database that TEST_DATABASE_URL names has no socket that a test can stand before")
	}
	dir := Must(os.MkdirTemp("", "pg"))(t) //nolint:usetesting // the path of a socket must be short
	p := &Proxy{t: t, socket: filepath.Join(dir, socketName), real: filepath.Join(q.Get("host"), socketName), open: map[net.Conn]bool{}, held: make(chan struct{})}
	close(p.held)
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	p.URL = u.String()
	p.Start()
	t.Cleanup(func() {
		p.Stop()
		_ = os.RemoveAll(dir) // the system's temporary folder
	})
	return p
}

// Start takes connections, again after [Proxy.Stop].
func (p *Proxy) Start() {
	p.t.Helper()
	l := Must((&net.ListenConfig{}).Listen(p.t.Context(), "unix", p.socket))(p.t)
	p.listener = l
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).DialContext(p.t.Context(), "unix", p.real)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.open[in], p.open[out] = true, true
			p.mu.Unlock()
			lost := &lost{}
			p.wg.Go(func() { p.pass(in, out, lost, true) })
			p.wg.Go(func() { p.pass(out, in, lost, false) })
		}
	})
}

// Stop ends all connections and takes no more.
func (p *Proxy) Stop() {
	_ = p.listener.Close() // twice does no harm
	p.Release()
	p.mu.Lock()
	for c := range p.open {
		_ = c.Close() // the process at the other end sees it
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Hold passes nothing on until [Proxy.Release]: connections are taken and bytes read, and
// nobody answers.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.held:
		p.held = make(chan struct{})
	default: // they are held
	}
}

// Release passes on what was held, and what comes.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.held:
	default:
		close(p.held)
	}
}

// Cut passes on what is sent next and drops the answer, with its connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
}

// lost says of a connection that its answers are dropped.
type lost struct{ answers bool }

// pass copies one direction of a connection.
func (p *Proxy) pass(from, to net.Conn, of *lost, asks bool) {
	defer func() {
		_, _ = from.Close(), to.Close() // the other direction may have closed them
		p.mu.Lock()
		delete(p.open, from)
		delete(p.open, to)
		p.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		held := p.held
		if asks && p.cut {
			of.answers, p.cut = true, false
		}
		drop := !asks && of.answers
		p.mu.Unlock()
		if drop {
			return
		}
		<-held
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
