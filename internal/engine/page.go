package engine

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
)

// pageFormats are those in which an HTML page may be what was meant.
var pageFormats = []string{"", "html", "htm", "xhtml", "xht", "shtml", "xml", "svg", "txt", "text", "md", "markdown", "php", "asp", "aspx", "jsp", "cgi"}

// notPage returns a body whose first read fails where a file of a data format is an HTML
// page: servers answer with one, and the status 200, where they want a reader to sign in
// or have moved a file.
func notPage(body io.ReadCloser, format string) io.ReadCloser {
	if slices.Contains(pageFormats, strings.ToLower(format)) {
		return body
	}
	return &dataBody{Closer: body, in: bufio.NewReaderSize(body, pageHead), format: format}
}

// pageHead is how much of a file is looked at, in bytes.
const pageHead = 1 << 10

// dataBody is a file that is no page. Nothing is read before the first Read: a file whose
// hash is known need not be.
type dataBody struct {
	io.Closer
	in     *bufio.Reader
	format string
	looked bool
	err    error
}

func (d *dataBody) Read(p []byte) (int, error) {
	if !d.looked {
		d.looked = true
		// A failure shows again below.
		if head, _ := d.in.Peek(pageHead); isPage(head) {
			d.err = errs.New(errs.Invalid, "engine.open",
				"the source is an HTML page and not a file of the format %q: perhaps it wants a reader to sign in, or the file has moved; open its address in a browser", d.format)
		}
	}
	if d.err != nil {
		return 0, d.err
	}
	return d.in.Read(p)
}

// isPage reports whether a file begins as HTML pages do, behind a byte order mark, white
// space, comments and an XML declaration.
func isPage(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte("\uFEFF"))
	for {
		b = bytes.TrimLeft(b, " \t\r\n\f")
		var end string
		switch {
		case bytes.HasPrefix(b, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(b, []byte("<?xml")):
			end = "?>"
		default:
			return begins(b, "<!doctype html") || begins(b, "<html")
		}
		_, rest, ok := bytes.Cut(b, []byte(end))
		if !ok {
			return false
		}
		b = rest
	}
}

// begins reports whether b begins with a tag, in any case of letters, and the tag ends there.
func begins(b []byte, tag string) bool {
	if len(b) <= len(tag) || !strings.EqualFold(string(b[:len(tag)]), tag) {
		return false
	}
	return strings.IndexByte(" \t\r\n\f>/", b[len(tag)]) >= 0
}

// formatOf is the format that an address of the plan names, by the mark behind it or by
// its ending.
func formatOf(url string) (bare, format string) {
	if i := strings.LastIndex(url, "#."); i >= 0 && !strings.ContainsAny(url[i:], "/?") {
		return url[:i], url[i+len("#."):]
	}
	path, _, _ := strings.Cut(url, "?")
	return url, datapackage.Extension(path)
}
