package fetch

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/datahq/specstore/internal/errs"
)

const (
	// acceptCodings is what a source is asked for. Others are decoded where a server
	// sends them all the same.
	acceptCodings = "gzip, identity;q=0.5"

	maxCodings = 3 // one within the other

	// maxWindow bounds what a decoder of zstd holds.
	maxWindow = 8 << 20
)

// decode undoes the content codings of an answer (RFC 9110, section 8.4): gzip, deflate,
// br and zstd. packed names what a file of the address is packed with itself, such as
// gzip for data.csv.gz; see [packing].
func decode(r io.Reader, header http.Header, packed string) (io.Reader, bool, error) {
	var codings []string
	for _, line := range header.Values("Content-Encoding") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
				codings = append(codings, strings.TrimPrefix(name, "x-"))
			}
		}
	}
	if len(codings) > maxCodings {
		return nil, false, errs.New(errs.Invalid, "fetch.Open", "the source is packed %d times (Content-Encoding)", len(codings))
	}
	decoded := false
	// The last coding was applied last.
	for i, coding := range slices.Backward(codings) {
		if i == 0 && coding == packed && !twice(&r, packed) {
			// Some servers declare the packing of the file itself as a coding.
			continue
		}
		next, err := decoder(r, coding)
		if err != nil {
			return nil, false, err
		}
		r, decoded = next, true
	}
	return r, decoded, nil
}

// packing returns the coding that the ending of an address names, or none.
func packing(address string) string {
	switch strings.ToLower(path.Ext(address)) {
	case ".gz", ".gzip", ".tgz":
		return "gzip"
	case ".zst", ".zstd":
		return "zstd"
	case ".br":
		return "br"
	}
	return ""
}

const peek = 64 << 10

// twice reports whether the bytes of r are a gzip within a gzip: then the outer one is the
// coding and the inner one the file. Of other codings one cannot see, and the file is as
// it came. r is replaced by a reader of the same bytes.
func twice(r *io.Reader, coding string) bool {
	buffered := bufio.NewReaderSize(*r, peek)
	*r = buffered
	if coding != "gzip" {
		return false
	}
	head, _ := buffered.Peek(peek) // what is there is enough
	z, err := gzip.NewReader(strings.NewReader(string(head)))
	if err != nil {
		return false
	}
	inner := make([]byte, 3)
	if _, err := io.ReadFull(z, inner); err != nil {
		return false
	}
	return inner[0] == 0x1f && inner[1] == 0x8b && inner[2] == 8
}

// decoder undoes one coding.
func decoder(r io.Reader, coding string) (io.Reader, error) {
	switch coding {
	case "gzip":
		return &lazy{r: r, open: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }}, nil
	case "deflate":
		return &lazy{r: r, open: inflate}, nil
	case "br":
		return &lazy{r: r, open: func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }}, nil
	case "zstd":
		return &lazy{r: r, open: func(r io.Reader) (io.Reader, error) {
			d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			return d, nil
		}}, nil
	}
	return nil, errs.New(errs.Invalid, "fetch.Open", "the source is packed in a way that cannot be read (Content-Encoding: %q)", coding[:min(len(coding), 40)])
}

// inflate reads zlib (RFC 1950), as the coding's name means, or the bare deflate (RFC
// 1951) that some servers send under it.
func inflate(r io.Reader) (io.Reader, error) {
	in := bufio.NewReader(r)
	head, _ := in.Peek(2)
	if len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(in)
	}
	return flate.NewReader(in), nil
}

// lazy opens a decoder at the first read, since opening it reads. Its failures are the
// source's. An answer without a body is an empty one in every coding.
type lazy struct {
	r    io.Reader
	open func(io.Reader) (io.Reader, error)
	in   io.Reader
	err  error
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if l.in == nil {
		in := bufio.NewReader(l.r)
		if _, err := in.Peek(1); err != nil {
			l.err = err // io.EOF is an empty body
			return 0, l.err
		}
		if l.in, l.err = l.open(in); l.err != nil {
			l.err = l.failure(l.err)
			return 0, l.err
		}
	}
	n, err := l.in.Read(p)
	if err != nil && err != io.EOF {
		err = l.failure(err)
		l.err = err
	}
	return n, err
}

// failure keeps what is wrong with the transfer, and says of all else that the packing is
// damaged.
func (l *lazy) failure(err error) error {
	if _, ok := errors.AsType[*errs.Error](err); ok {
		return err
	}
	return errs.Wrap(err, errs.Invalid, "fetch.Read", "the source is damaged: its packing (Content-Encoding) cannot be undone")
}

// limit fails a source that is longer than n bytes.
type limit struct {
	r    io.Reader
	left int64
	max  int64
	what string
}

func (l *limit) Read(p []byte) (int, error) {
	// One byte more shows that there is more.
	n, err := l.r.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, tooLong(l.max, l.what)
	}
	return n, err
}

func tooLong(n int64, what string) error {
	return errs.New(errs.Invalid, "fetch.Read", "the source has more than %d bytes%s (SPECSTORE_MAX_SOURCE_BYTES)", n, what)
}

// pace fails a source that sends less than a rate over a window of time, counting only
// the time that reads take.
type pace struct {
	io.ReadCloser
	rate   int64 // bytes a second
	window time.Duration
	now    func() time.Time

	spent time.Duration // in reads of the window
	bytes int64         // of the window
}

func (p *pace) Read(b []byte) (int, error) {
	begun := p.now()
	n, err := p.ReadCloser.Read(b)
	p.spent += p.now().Sub(begun)
	p.bytes += int64(n)
	if p.spent < p.window {
		return n, err
	}
	if err == nil && p.bytes < p.rate*int64(p.window/time.Second) {
		return n, errs.New(errs.Unavailable, "fetch.Read", "the source is too slow: %d bytes in %s, fewer than %d a second", p.bytes, p.window, p.rate)
	}
	p.spent, p.bytes = 0, 0
	return n, err
}

// follow decides on a redirect.
func follow(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errs.New(errs.Invalid, "fetch.Open", "the source redirects more than %d times", maxRedirects)
	}
	req.Header.Del("Referer")
	return checkURL(req.URL)
}
