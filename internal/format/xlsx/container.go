package xlsx

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"

	"github.com/datahq/specstore/internal/format"
)

// Limits of the container. Apache POI has lower ones (ZipSecureFile: 1,000 entries, the
// ratio from 100 KiB on), which workbooks of offices exceed.
const (
	maxEntries = 10000
	maxPart    = 4<<30 - 1 // bytes of an entry
	maxRatio   = 100       // of an entry to what it is compressed to,
	ratioFrom  = 64 << 20  // beyond so many bytes
	// The directory of so many entries needs no more.
	maxDirectory = 8 << 20
	// Parts that are not read as a stream of rows.
	maxSmallPart = 32 << 20
)

func formatError(message string, args ...any) error {
	return &format.Error{Code: format.CodeFormat, Message: fmt.Sprintf(message, args...)}
}

// container is an opened ZIP file that keeps to the limits.
type container struct {
	file  *os.File
	parts map[string]*zip.File // by name in lower case: the names of parts know no case
}

// openContainer opens a workbook's file. Its error says what a file is that is none.
func openContainer(ctx context.Context, name string, check func(*container) error) (*container, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("xlsx: %w", err)
	}
	c, err := readContainer(ctx, f)
	if err == nil {
		err = check(c)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

func readContainer(ctx context.Context, f *os.File) (*container, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("xlsx: %w", err)
	}
	if info.Size() == 0 {
		return nil, &format.Error{Code: format.CodeSource, Message: "the file is empty"}
	}
	head := make([]byte, 8)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("xlsx: %w", err)
	}
	switch {
	case string(head[:n]) == "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1":
		return nil, compoundFile(format.BoundAt(ctx, f))
	case !bytes.HasPrefix(head[:n], []byte("PK")):
		return nil, formatError("the file is no XLSX workbook or OpenDocument spreadsheet")
	}
	directory := format.NewDirectory(format.BoundAt(ctx, f), maxDirectory)
	z, err := zip.NewReader(directory, info.Size())
	switch {
	case directory.TooLong():
		return nil, formatError("the workbook's list of parts is longer than the limit of %d bytes", maxDirectory)
	case err != nil:
		return nil, damaged(err)
	case len(z.File) > maxEntries:
		return nil, formatError("the workbook has %d parts, the limit is %d", len(z.File), maxEntries)
	}
	directory.Done()
	z.RegisterDecompressor(zip.Deflate, flate.NewReader)
	c := &container{file: f, parts: make(map[string]*zip.File, len(z.File))}
	for _, e := range z.File {
		// Some programs part the folders as Windows does.
		key := strings.ToLower(strings.TrimPrefix(strings.ReplaceAll(e.Name, `\`, "/"), "/"))
		if c.parts[key] != nil {
			return nil, formatError("the workbook has two parts with the name %q", cut(e.Name))
		}
		if e.Flags&1 != 0 {
			return nil, formatError("%s", protected)
		}
		c.parts[key] = e
	}
	if err := overlaps(z.File, info.Size()); err != nil {
		return nil, err
	}
	return c, nil
}

const protected = "the workbook is protected by a password: publish one without"

// overlaps refuses entries that share bytes, or have more than the file: a small file
// that is read as a large one.
func overlaps(files []*zip.File, size int64) error {
	type span struct{ from, to int64 }
	spans := make([]span, 0, len(files))
	for _, e := range files {
		from, err := e.DataOffset()
		if err != nil {
			return damaged(err)
		}
		if e.CompressedSize64 > uint64(size) || from+int64(e.CompressedSize64) > size {
			return formatError("the workbook's file is damaged or incomplete: a part is longer than the file")
		}
		spans = append(spans, span{from, from + int64(e.CompressedSize64)})
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.from != b.from {
			return int(max(min(a.from-b.from, 1), -1))
		}
		return int(max(min(a.to-b.to, 1), -1))
	})
	for i := 1; i < len(spans); i++ {
		const header = 30 // of an entry, without its name
		if spans[i].from < spans[i-1].to+header {
			return formatError("the workbook's parts overlap in its file, which no program writes")
		}
	}
	return nil
}

// compoundFile says what a file in the older container is. The names in it are in
// UTF-16, at a place that only its directory knows.
func compoundFile(f io.ReaderAt) error {
	mark := make([]byte, 0, 2*len(encryptedPackage))
	for _, c := range []byte(encryptedPackage) {
		mark = append(mark, c, 0)
	}
	buf := make([]byte, 0, 64<<10)
	r := io.NewSectionReader(f, 0, 1<<40)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if bytes.Contains(buf, mark) {
			return formatError("%s", protected)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return formatError("the file is a workbook of Excel 97-2003 (XLS) or another file of that time, which cannot be read: save it as XLSX or CSV")
		}
		if err != nil {
			return fmt.Errorf("xlsx: %w", err)
		}
		buf = buf[:copy(buf, buf[len(buf)-len(mark):])]
	}
}

// encryptedPackage is the stream that an encrypted workbook lies in (MS-OFFCRYPTO).
const encryptedPackage = "EncryptedPackage"

// isSpreadsheet tells ZIP files apart that are something else.
func (c *container) isSpreadsheet() error {
	if c.parts["_rels/.rels"] != nil || c.parts["[content_types].xml"] != nil {
		return nil
	}
	if c.parts["mimetype"] != nil || c.parts["content.xml"] != nil {
		return formatError("the file is an OpenDocument spreadsheet: declare its `format` ods, or name it so")
	}
	return formatError("the file is a ZIP archive and no XLSX workbook")
}

func damaged(err error) error {
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrAlgorithm) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return formatError("the workbook's file is damaged or incomplete: %s", err)
	}
	return fmt.Errorf("xlsx: %w", err)
}

func (c *container) close() error { return c.file.Close() }

// has reports whether there is a part.
func (c *container) has(name string) bool { return c.parts[strings.ToLower(name)] != nil }

// open opens a part. What is read from it is bounded.
func (c *container) open(name string, limit int64) (io.ReadCloser, error) {
	e := c.parts[strings.ToLower(name)]
	if e == nil {
		return nil, formatError("the workbook lacks its part %q", cut(name))
	}
	r, err := e.Open()
	if err != nil {
		return nil, damaged(err)
	}
	p := &part{r: r, name: name, limit: limit}
	p.packed = int64(min(e.CompressedSize64, maxPart))
	return p, nil
}

// part reads an entry within the limits.
type part struct {
	r      io.ReadCloser
	name   string
	n      int64
	packed int64
	limit  int64
	err    error
}

func (p *part) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.r.Read(b)
	p.n += int64(n)
	switch {
	case p.n > p.limit:
		n, p.err = 0, formatError("the workbook's part %q is longer than the limit of %s", cut(p.name), size(p.limit))
	case p.n > ratioFrom && p.n/maxRatio > p.packed:
		n, p.err = 0, formatError("the workbook's part %q is compressed to less than a hundredth, as only files made to do harm are", cut(p.name))
	case err == io.EOF:
		p.err = io.EOF
	case err != nil:
		p.err = p.broken(err)
	}
	return n, p.err
}

// broken is an error of decompression: what cannot be is damage.
func (p *part) broken(err error) error {
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("xlsx: %w", err)
	}
	return formatError("the workbook's part %q is damaged: %s", cut(p.name), err)
}

func (p *part) Close() error { return p.r.Close() }

// size is a limit in words.
func size(bytes int64) string {
	if bytes >= 1<<30-1 {
		return fmt.Sprintf("%d GiB", (bytes+1)>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// cut bounds a name in a message.
func cut(s string) string {
	const most = 100
	if r := []rune(s[:min(len(s), 4*most)]); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// relation is a link from one part to others.
type relation struct {
	kind   string // the last word of its type
	target string // the part's name
}

// relations reads the links of a part, by their IDs. A part may have none.
func (c *container) relations(of string) (map[string]relation, error) {
	dir, base := path.Split(of)
	name := dir + "_rels/" + base + ".rels"
	found := map[string]relation{}
	if !c.has(name) {
		return found, nil
	}
	err := c.small(name, func(x *xmlReader) error {
		if string(x.name) != "Relationship" || string(x.attr("TargetMode")) == "External" {
			return nil
		}
		target := string(x.attr("Target"))
		if !strings.HasPrefix(target, "/") {
			target = "/" + dir + target
		}
		kind := string(x.attr("Type"))
		found[string(x.attr("Id"))] = relation{kind[strings.LastIndexByte(kind, '/')+1:], strings.TrimPrefix(path.Clean(target), "/")}
		return nil
	})
	return found, err
}

// small reads a part that is not large and calls each for every start tag.
func (c *container) small(name string, each func(*xmlReader) error) error {
	r, err := c.open(name, maxSmallPart)
	if err != nil {
		return err
	}
	defer r.Close()
	x := newXMLReader(r)
	for {
		kind, err := x.next()
		if err == io.EOF {
			return nil
		}
		if err == nil && kind == startTag {
			err = each(x)
		}
		if err != nil {
			return inPart(err, name)
		}
	}
}

// inPart says in which part the XML is wrong.
func inPart(err error, name string) error {
	if e, ok := errors.AsType[*xmlError](err); ok {
		return formatError("the workbook's part %q %s", cut(name), e.message)
	}
	return err
}
