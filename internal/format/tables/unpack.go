package tables

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/datahq/specstore/internal/format"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zip"
)

// Bounds of what a compressed file unpacks to. A hundredfold is what office
// software allows an entry of a ZIP file, once it is past the first 100 KiB. Text that
// repeats itself comes near deflate's own bound of 1032 to 1, so that a gzip stream,
// which is read and never kept, is held to a size alone.
const (
	maxUnpacked  = 64 << 30 // bytes
	maxRatio     = 100
	unratedBytes = 64 << 20
	maxListed    = 20      // names that a message lists
	maxDirectory = 4 << 20 // bytes of an archive's list of files
)

// compression finds out how a file is packed and what is in it: what the resource
// says, else what its names say. Empty is not at all; name is the format inside.
func compression(resource map[string]any, name string) (packed, inner string, err error) {
	file, _ := resource["path"].(string)
	if i := strings.IndexAny(file, "?#"); i >= 0 {
		file = file[:i]
	}
	file = strings.ToLower(path.Base(file))
	inner = name
	cut := func(ending string) bool {
		rest, ok := strings.CutSuffix("."+inner, "."+ending)
		if ok {
			inner = strings.TrimPrefix(rest, ".")
		}
		return ok
	}
	switch {
	case cut("gz"), cut("gzip"):
		packed = "gz"
	case cut("zip"):
		packed = "zip"
	case strings.HasSuffix(file, ".gz"):
		packed = "gz"
	case strings.HasSuffix(file, ".zip"):
		packed = "zip"
	}
	if v := resource["compression"]; v != nil {
		declared, ok := v.(string)
		switch declared = strings.ToLower(declared); {
		case ok && (declared == "gz" || declared == "gzip"):
			packed = "gz"
		case ok && declared == "zip":
			packed = "zip"
		case ok && (declared == "" || declared == "no" || declared == "none"):
			packed = ""
		default:
			return "", "", &format.Error{Code: CodeDialect, Message: "compression: must be gz, zip or no"}
		}
	}
	if packed != "" && inner == "" {
		if rest, ok := strings.CutSuffix(file, "."+packed); ok {
			inner = strings.TrimPrefix(path.Ext(rest), ".")
		}
	}
	return packed, inner, nil
}

// mostUnpacked is how many bytes a compressed file may unpack to.
func (o Options) mostUnpacked() int64 { return cmp.Or(o.MaxUnpacked, maxUnpacked) }

// Unpacked is what a compressed file holds. Close frees what that takes.
type Unpacked struct {
	Source
	Name  string // of the file inside, where the packing has one
	close []func()
}

// Close frees what the unpacking holds.
func (u *Unpacked) Close() {
	for _, f := range slices.Backward(u.close) {
		f()
	}
}

// Unpack opens what a file holds that is packed with gz or zip. Its error is a
// [format.Error] where the file is to blame.
func Unpack(ctx context.Context, src Source, packed string, o Options) (*Unpacked, error) {
	u := &Unpacked{}
	var r io.Reader
	var err error
	if packed == "gz" {
		r, err = gunzip(format.Bound(ctx, src.Reader), o.mostUnpacked())
	} else {
		r, err = u.unzip(ctx, src, o)
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	r = format.Bound(ctx, r)
	u.Reader = r
	u.Whole = func() (string, error) {
		whole, err := os.CreateTemp(o.Temp, "unpacked-")
		if err != nil {
			return "", err
		}
		u.close = append(u.close, func() { os.Remove(whole.Name()) })
		_, err = io.Copy(whole, r)
		if closed := whole.Close(); err == nil {
			err = closed
		}
		return whole.Name(), err
	}
	return u, nil
}

func damaged(what string, err error) error {
	text := "is damaged: " + err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		text = "ends too early"
	}
	return &format.Error{Code: format.CodeSource, Message: "the " + what + " file " + text}
}

// honest tells errors of the file that is unpacked from those of the packing.
type honest struct {
	r   io.Reader
	err error
}

func (h *honest) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if err != nil && err != io.EOF {
		h.err = err
	}
	return n, err
}

const gzipMark = "\x1f\x8b"

func gunzip(r io.Reader, most int64) (io.Reader, error) {
	in := &honest{r: r}
	buffered := bufio.NewReaderSize(in, 64<<10)
	if head, _ := buffered.Peek(2); len(head) == 2 && string(head) != gzipMark {
		return nil, &format.Error{Code: format.CodeSource, Message: "the file is not in gzip form, as its name or its description says"}
	}
	z, err := gzip.NewReader(buffered)
	if in.err != nil {
		return nil, in.err
	}
	if err != nil {
		return nil, damaged("gzip", err)
	}
	z.Multistream(false)
	return &bounded{r: &members{z: z, in: buffered}, in: in, what: "gzip", most: most}, nil
}

// members yields the members of a gzip file one after the other. Zeros behind the last are
// the padding of tapes and blocks, which gzip(1) reads over.
type members struct {
	z    *gzip.Reader
	in   *bufio.Reader
	zero bool // padding was read
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if err != io.EOF || n > 0 {
			if err == io.EOF {
				err = nil // the next call meets it again
			}
			return n, err
		}
		if err := m.padding(); err != nil {
			return 0, err
		}
		if err := m.z.Reset(m.in); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
	}
}

// padding reads over zeros. Behind them is the end of the file or nothing that is read.
func (m *members) padding() error {
	for {
		b, err := m.in.ReadByte()
		switch {
		case err != nil:
			return err
		case b == 0:
			m.zero = true
		case m.zero:
			return errors.New("there is more behind its padding")
		default:
			return m.in.UnreadByte()
		}
	}
}

// bounded gives what is unpacked, up to a bound.
type bounded struct {
	r    io.Reader
	in   *honest // nil: the packing's errors are all there are
	what string
	n    int64
	most int64
	why  string // the bound in words; empty: it is one of size
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.n > b.most {
		why := b.why
		if why == "" {
			why = fmt.Sprintf("more than %d bytes, the limit (SPECSTORE_MAX_SOURCE_BYTES)", b.most)
		}
		return 0, &format.Error{Code: format.CodeSource, Message: fmt.Sprintf("the %s file unpacks to %s", b.what, why)}
	}
	if err != nil && err != io.EOF {
		if b.in != nil && b.in.err != nil {
			return n, b.in.err
		}
		err = damaged(b.what, err)
	}
	return n, err
}

// unzip opens the only file of an archive, or the one that `innerpath` of the
// dialect names.
func (u *Unpacked) unzip(ctx context.Context, src Source, o Options) (io.Reader, error) {
	if src.Whole == nil {
		src.Whole = Spool(ctx, src.Reader, o.Temp)
	}
	at, err := src.Whole()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	u.close = append(u.close, func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	directory := format.NewDirectory(f, maxDirectory)
	z, err := zip.NewReader(directory, info.Size())
	if directory.TooLong() {
		return nil, &format.Error{Code: format.CodeSource, Message: fmt.Sprintf("the ZIP archive lists too many files: its directory is longer than %d MiB, the limit", maxDirectory>>20)}
	}
	directory.Done()
	if err != nil {
		return nil, &format.Error{Code: format.CodeSource, Message: "the file is not a ZIP archive, as its name or its description says, or it is damaged"}
	}
	entry, err := chosen(z.File, o)
	if err != nil {
		return nil, err
	}
	if entry.Flags&1 != 0 {
		return nil, &format.Error{Code: format.CodeSource, Message: fmt.Sprintf("the file %q of the ZIP archive is encrypted", entry.Name)}
	}
	r, err := entry.Open()
	if err != nil {
		return nil, damaged("ZIP", err)
	}
	u.close = append(u.close, func() { r.Close() })
	u.Name = entry.Name
	packedBytes := min(entry.CompressedSize64, uint64(info.Size()))
	b := &bounded{r: r, what: "ZIP", most: min(max(unratedBytes, maxRatio*int64(packedBytes)), o.mostUnpacked())}
	if b.most < o.mostUnpacked() {
		b.why = fmt.Sprintf("more than %d times its size, the limit: pack it with gzip, or not at all", maxRatio)
	}
	return b, nil
}

// chosen is the file of an archive that is read.
func chosen(all []*zip.File, o Options) (*zip.File, error) {
	wanted, err := innerPath(o.Resource)
	if err != nil {
		return nil, err
	}
	files := slices.DeleteFunc(slices.Clone(all), func(f *zip.File) bool {
		base := path.Base(f.Name)
		return strings.HasSuffix(f.Name, "/") || strings.HasPrefix(f.Name, "__MACOSX/") || base == ".DS_Store"
	})
	if len(files) == 0 {
		return nil, &format.Error{Code: format.CodeSource, Message: "the ZIP archive is empty"}
	}
	if wanted == "" && (len(files) == 1 || o.First) {
		return files[0], nil
	}
	if i := slices.IndexFunc(files, func(f *zip.File) bool { return f.Name == wanted }); i >= 0 && wanted != "" {
		return files[i], nil
	}
	var names []string
	for _, f := range files[:min(len(files), maxListed)] {
		names = append(names, fmt.Sprintf("%.200q", f.Name))
	}
	if len(files) > maxListed {
		names = append(names, fmt.Sprintf("and %d more", len(files)-maxListed))
	}
	message := "the ZIP archive has several files: name one with `innerpath` in the dialect; it has "
	if wanted != "" {
		message = fmt.Sprintf("the ZIP archive has no file %q; it has ", wanted)
	}
	return nil, &format.Error{Code: format.CodeSource, Message: message + strings.Join(names, ", ")}
}

// innerPath is the file of an archive that a resource means.
func innerPath(resource map[string]any) (string, error) {
	dialect, _ := resource["dialect"].(map[string]any)
	for _, v := range []any{dialect["innerpath"], dialect["innerPath"], resource["innerpath"]} {
		if v == nil {
			continue
		}
		name, ok := v.(string)
		if !ok {
			return "", &format.Error{Code: CodeDialect, Message: "dialect/innerpath: must be a text"}
		}
		return name, nil
	}
	return "", nil
}

// plain looks at the head of a file that should be text: a packed one that nobody
// declared is unpacked where it is a stream (gzip), and packed twice is refused.
func plain(r io.Reader, inside bool, most int64) (io.Reader, error) {
	const headBytes = 4
	head := make([]byte, headBytes)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	rest := io.Reader(bytes.NewReader(head[:n]))
	if err == nil {
		rest = io.MultiReader(rest, r)
	}
	isGzip := bytes.HasPrefix(head[:n], []byte(gzipMark))
	isZip := bytes.HasPrefix(head[:n], []byte("PK\x03\x04"))
	switch {
	case inside && (isGzip || isZip):
		return nil, &format.Error{Code: format.CodeSource, Message: "the compressed file holds another compressed file: pack it once"}
	case isZip:
		return nil, &format.Error{Code: format.CodeSource, Message: "the file is a ZIP archive or a workbook: declare its `format`, or `compression` zip"}
	case isGzip:
		z, err := gunzip(rest, most)
		if err != nil {
			return nil, err
		}
		return plain(z, true, most)
	}
	return rest, nil
}

// closing is a reader that frees what was made for it.
type closing struct {
	format.Reader
	free func()
}

// Close closes the reader, then frees the rest.
func (c *closing) Close() error {
	err := c.Reader.Close()
	c.free()
	return err
}
