package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format/tables"
)

// open opens the source, all parts of it as one file.
func (r *run) open(ctx context.Context, s *source) (io.ReadCloser, error) {
	if len(s.urls) == 1 {
		body, info, err := r.openPart(ctx, s.urls[0])
		s.info = info
		return body, err
	}
	p := &parts{open: func(i int) (io.ReadCloser, error) {
		body, info, err := r.openPart(ctx, s.urls[i])
		if err != nil {
			return nil, err
		}
		if i == 0 {
			s.info = SourceInfo{Size: -1, Name: fmt.Sprintf("%s and %d more", info.Name, len(s.urls)-1), Scheme: info.Scheme}
		}
		return body, nil
	}, count: len(s.urls)}
	if len(s.tables) > 0 {
		p.lines, p.head = true, tables.HeaderLines(s.tables[0].resource.Added)
	}
	return p, p.next()
}

// openPart opens an address of the plan. The plan marks the format behind one that
// does not end with it.
func (r *run) openPart(ctx context.Context, url string) (io.ReadCloser, SourceInfo, error) {
	if data, ok := strings.CutPrefix(url, "data:;base64,"); ok {
		text, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, SourceInfo{}, errs.Wrap(err, errs.Invalid, "engine.openPart", "the inline data are not base64")
		}
		return io.NopCloser(bytes.NewReader(text)), SourceInfo{Size: int64(len(text)), Name: "inline data", Scheme: "data"}, nil
	}
	url, format := formatOf(url)
	body, info, err := r.Sources.Open(ctx, url)
	if err != nil {
		return nil, info, err
	}
	return notPage(body, format), info, nil
}

// maxHead bounds the header that parts of a table have in common.
const maxHead = 1 << 20

// parts reads files one after the other as one. Those of a table each end with a line
// end, and have one header: that of a further part is left out where it is the first
// part's (Data Package, "Data in multiple files": readers concatenate; a file that was
// split has its header once, files that were made one by one have it each).
type parts struct {
	open  func(i int) (io.ReadCloser, error)
	count int
	lines bool // they are rows
	head  int  // lines of the header

	at     int // the next one
	body   io.ReadCloser
	r      *bufio.Reader
	header [][]byte // of the first
	before []byte   // of this part, to be given first
	last   byte
}

// next goes on to the next part; at the end there is none.
func (p *parts) next() error {
	if p.body != nil {
		p.body.Close()
		p.body = nil
	}
	if p.at == p.count {
		return nil
	}
	body, err := p.open(p.at)
	if err != nil {
		return errs.Wrap(err, errs.KindOf(err), "engine.parts", "part %d of %d: %s", p.at+1, p.count, errs.Detail(err))
	}
	p.at++
	p.body, p.r = body, bufio.NewReaderSize(body, 64<<10)
	if !p.lines {
		return nil
	}
	if mark, err := p.r.Peek(2); err == nil && (mark[0] == 0xff && mark[1] == 0xfe || mark[0] == 0xfe && mark[1] == 0xff) {
		return errs.New(errs.Invalid, "engine.parts", "part %d of %d is in UTF-16: tables in several files must be in an encoding with bytes of their own for line ends, such as UTF-8", p.at, p.count)
	}
	var mark []byte
	if b, err := p.r.Peek(3); err == nil && bytes.Equal(b, []byte("\xef\xbb\xbf")) {
		_, _ = p.r.Discard(3) // it was peeked
		mark = b
	}
	return p.readHead(bytes.Clone(mark))
}

// readHead reads the header of a part, and keeps it for what is to be given where it
// is the first one's or another one.
func (p *parts) readHead(mark []byte) error {
	var head [][]byte
	size := 0
	for len(head) < p.head {
		line, err := p.r.ReadSlice('\n')
		line = bytes.Clone(line)
		for err == bufio.ErrBufferFull && size+len(line) <= maxHead {
			var more []byte
			more, err = p.r.ReadSlice('\n')
			line = append(line, more...)
		}
		if size += len(line); size > maxHead {
			return errs.New(errs.Invalid, "engine.parts", "part %d of %d: its header is longer than the limit of %d MiB", p.at, p.count, maxHead>>20)
		}
		if len(line) > 0 {
			head = append(head, line)
		}
		if err == io.EOF {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
	if p.at == 1 {
		p.header = head
		p.before = slices.Concat(mark, bytes.Join(head, nil))
		return nil
	}
	if sameLines(head, p.header) {
		return nil
	}
	p.before = bytes.Join(head, nil)
	return nil
}

// sameLines compares lines but for their ends.
func sameLines(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(bytes.TrimRight(a[i], "\r\n"), bytes.TrimRight(b[i], "\r\n")) {
			return false
		}
	}
	return true
}

// Read reads on, over the ends of parts.
func (p *parts) Read(b []byte) (int, error) {
	for p.body != nil {
		if len(p.before) > 0 {
			n := copy(b, p.before)
			p.before = p.before[n:]
			p.last = b[n-1]
			return n, nil
		}
		n, err := p.r.Read(b)
		if n > 0 {
			p.last = b[n-1]
			return n, nil
		}
		if err == nil {
			continue
		}
		if err != io.EOF {
			return 0, err
		}
		more := p.at < p.count
		if err := p.next(); err != nil {
			return 0, err
		}
		if p.lines && more && p.last != '\n' && p.last != '\r' && p.last != 0 {
			p.before = append([]byte{'\n'}, p.before...)
		}
	}
	return 0, io.EOF
}

// Close closes the part that is open.
func (p *parts) Close() error {
	if p.body == nil {
		return nil
	}
	return p.body.Close()
}
