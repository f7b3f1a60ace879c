package sqldb

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// answerTime bounds how long PostgreSQL may leave a statement without any byte of an
	// answer. It is longer than lock_timeout, so that who waits for a row learns that from the
	// server, and shorter than a lease.
	answerTime = 4 * time.Second
	// waitTime bounds the wait for a connection, of either database.
	waitTime = 5 * time.Second
	// closeTime bounds the wait for connections to PostgreSQL to be closed as they should.
	closeTime = time.Second
	// slowTime takes the place of answerTime for what is slow.
	slowTime = time.Minute
)

// errSilent is what a connection fails with whose server does not answer. It is no
// [net.Error] of a timeout, after which pgx would go on with the connection.
var errSilent = errors.New("sqldb: the server does not answer")

// bounds makes connections that fail where the server is silent for longer than limit. They
// are read while an answer is waited for and at no other time.
type bounds struct {
	limit atomic.Int64 // nanoseconds; 0 is none

	mu     sync.Mutex
	open   map[*boundConn]struct{}
	closed bool
}

func newBounds(limit time.Duration) *bounds {
	b := &bounds{open: map[*boundConn]struct{}{}}
	b.limit.Store(int64(limit))
	return b
}

// dialer returns a dial function whose connections are bound.
func (b *bounds) dialer(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		made := &boundConn{Conn: c, of: b}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.closed {
			return nil, errors.Join(net.ErrClosed, c.Close())
		}
		b.open[made] = struct{}{}
		return made, nil
	}
}

// close ends all connections, whatever is waited for on them.
func (b *bounds) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for c := range b.open {
		_ = c.Conn.Close() // nobody reads from it any more
	}
}

// boundConn is a connection whose reads and writes each end within a limit. The deadlines
// that its user sets hold beside it.
type boundConn struct {
	net.Conn
	of     *bounds
	slow   atomic.Bool
	silent atomic.Bool // the limit was reached: nothing more is waited for

	mu          sync.Mutex
	read, write time.Time // deadlines of the user
}

// Close implements [net.Conn].
func (c *boundConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// SetDeadline implements [net.Conn].
func (c *boundConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements [net.Conn].
func (c *boundConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements [net.Conn].
func (c *boundConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}

// Read implements [net.Conn].
func (c *boundConn) Read(b []byte) (int, error) {
	return c.do(c.Conn.Read, c.Conn.SetReadDeadline, &c.read, b)
}

// Write implements [net.Conn].
func (c *boundConn) Write(b []byte) (int, error) {
	return c.do(c.Conn.Write, c.Conn.SetWriteDeadline, &c.write, b)
}

// do reads or writes. user is the deadline that the connection's user has set, which is
// the earlier one where its context has ended.
func (c *boundConn) do(f func([]byte) (int, error), set func(time.Time) error, user *time.Time, b []byte) (int, error) {
	limit := time.Duration(c.of.limit.Load())
	if c.silent.Load() {
		return 0, errSilent
	}
	switch {
	case limit == 0:
		return f(b)
	case c.slow.Load():
		limit = slowTime
	}
	end := time.Now().Add(limit)
	c.mu.Lock()
	ours := user.IsZero() || end.Before(*user)
	var err error
	if ours {
		err = set(end)
	}
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := f(b)
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() && ours && c.passed(user) {
		c.silent.Store(true)
		return n, errSilent
	}
	return n, err
}

// passed reports whether the limit alone can have ended a call: the user's deadline has not.
func (c *boundConn) passed(user *time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return user.IsZero() || time.Now().Before(*user)
}

type slowKey struct{}

// Slow lets the transactions of a context have statements that take PostgreSQL up to a
// minute, such as the removal of very many rows. It is for work that nobody waits for.
func Slow(ctx context.Context) context.Context { return context.WithValue(ctx, slowKey{}, true) }

// allow sets the time of a connection to what ctx asks for, until done is called.
func allow(ctx context.Context, conn *pgxpool.Conn) (done func()) {
	if ctx.Value(slowKey{}) == nil {
		return func() {}
	}
	inner := conn.Conn().PgConn().Conn()
	if secured, ok := inner.(interface{ NetConn() net.Conn }); ok { // TLS
		inner = secured.NetConn()
	}
	c, ok := inner.(*boundConn)
	if !ok {
		return func() {}
	}
	c.slow.Store(true)
	return func() { c.slow.Store(false) }
}
