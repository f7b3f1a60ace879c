package sqldb

import (
	"context"
	"database/sql/driver"
	"strings"
)

// maxPrepared bounds the statements that a connection keeps prepared. There are fewer
// texts than that; a text beyond them is prepared each time.
const maxPrepared = 256

// preparing makes connections that keep their statements prepared: to prepare one
// takes SQLite longer than to run it.
type preparing struct {
	driver.Connector
	trace func(statements ...string)
}

// Connect implements [driver.Connector].
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := c.(liteDriver)
	if !ok {
		return c, nil
	}
	return &preparedConn{liteDriver: inner, trace: p.trace, kept: map[string]*preparedStmt{}}, nil
}

// liteDriver is what the driver's connections can do.
type liteDriver interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// liteStmt is what the driver's statements can do.
type liteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// preparedConn is used by one goroutine at a time, as database/sql promises.
type preparedConn struct {
	liteDriver
	trace func(statements ...string)
	kept  map[string]*preparedStmt
}

type preparedStmt struct {
	liteStmt
	busy bool // its rows are being read
}

// statement gives the prepared statement of a text; nil where it is not kept.
func (c *preparedConn) statement(ctx context.Context, query string, args int) (*preparedStmt, error) {
	if c.trace != nil {
		c.trace(query)
	}
	if s := c.kept[query]; s != nil {
		if s.busy {
			return nil, nil
		}
		return s, nil
	}
	// A statement without arguments may be a script, and is none that comes often.
	if args == 0 || len(c.kept) >= maxPrepared || strings.Contains(query, ";") {
		return nil, nil
	}
	made, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	inner, ok := made.(liteStmt)
	if !ok {
		return nil, made.Close()
	}
	s := &preparedStmt{liteStmt: inner}
	c.kept[query] = s
	return s, nil
}

// ExecContext implements [driver.ExecerContext].
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.statement(ctx, query, len(args))
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.liteDriver.ExecContext(ctx, query, args)
	}
	return s.ExecContext(ctx, args)
}

// QueryContext implements [driver.QueryerContext].
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.statement(ctx, query, len(args))
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.liteDriver.QueryContext(ctx, query, args)
	}
	rows, err := s.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.busy = true
	return &preparedRows{rows, s}, nil
}

// Close implements [driver.Conn].
func (c *preparedConn) Close() error {
	for _, s := range c.kept {
		_ = s.Close() // the connection, which goes, frees the rest
	}
	clear(c.kept)
	return c.liteDriver.Close()
}

// preparedRows let go of their statement when they are closed.
type preparedRows struct {
	driver.Rows
	of *preparedStmt
}

// Close implements [driver.Rows].
func (r *preparedRows) Close() error {
	r.of.busy = false
	return r.Rows.Close()
}
