package engine

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/processor"
)

// entryTime is the time of every entry: the first that ZIP knows, so that the
// same files give the same archive.
var entryTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// zip publishes an archive of the originals, the report, and all forms of the
// tables, with a descriptor of its own that names neither flow nor time.
func (r *run) zip(ctx context.Context, n *node) (*Result, error) {
	s, err := newSpool(r.Temp)
	if err != nil {
		return nil, err
	}
	defer s.close()
	w := zip.NewWriter(s)
	var entry *deflater // the archive closes each but one that broke off
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		entry = newDeflater(w)
		return entry, nil
	})
	defer func() {
		if entry != nil {
			_ = entry.Close() // an archive that broke off is thrown away
		}
	}()

	earlier, closeEarlier := r.earlierZip(ctx, n)
	defer closeEarlier()
	n.parts = map[string]string{}
	list := []any{}
	var total int64
	for _, res := range n.pkg.Zip.Resources {
		d := r.describe(res)
		c, err := r.content(res)
		if err != nil {
			return nil, err
		}
		if c.path != "" {
			d["path"] = c.path
		}
		path := fmt.Sprint(d["path"])
		n.parts[path] = c.sha256
		size, err := r.addContent(ctx, w, path, c, earlier)
		if err != nil {
			return nil, err
		}
		if res.Pipeline == "" {
			d["bytes"] = size
			delete(d, "rowcount")
		}
		delete(d, "dpp:streamedFrom")
		if _, ok := d["profile"]; !ok {
			d["profile"] = "data-resource"
		}
		list = append(list, d)
		total += size
	}
	descriptor := datapackage.Clone(timeless(n.pkg.Zip.Descriptor)).(map[string]any)
	descriptor["resources"], descriptor["bytes"] = list, total
	body, err := encode(descriptor)
	if err != nil {
		return nil, err
	}
	if _, err := addEntry(w, "datapackage.json", bytes.NewReader(body)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	n.logf("packed %d files", len(list)+1)
	d := maps.Clone(n.pkg.Resources[0].Descriptor)
	d["profile"] = "data-resource"
	return r.publish(ctx, n, []made{{d, s, nil}})
}

func addEntry(w *zip.Writer, path string, body io.Reader) (size int64, err error) {
	if err := checkPath(path); err != nil {
		return 0, err
	}
	e, err := w.CreateHeader(&zip.FileHeader{Name: path, Method: zip.Deflate, Modified: entryTime})
	if err != nil {
		return 0, err
	}
	return io.Copy(e, body)
}

// content is a file of an archive.
type content struct {
	path   string // inside a package, where it is known
	sha256 string // empty where it is not known
	open   func(ctx context.Context) (io.ReadCloser, error)
}

// content finds a file of the archive: one that a pipeline made, a source, or a text of
// the descriptor.
func (r *run) content(res *processor.Resource) (content, error) {
	kept := func(o Output) func(context.Context) (io.ReadCloser, error) {
		return func(ctx context.Context) (io.ReadCloser, error) { return r.Sink.Open(ctx, o.Key) }
	}
	switch {
	case res.Pipeline != "":
		if by := r.byID[res.Pipeline]; by != nil && by.result != nil {
			for _, o := range by.result.Outputs {
				if o.Resource == res.Made {
					return content{o.Path, o.SHA256, kept(o)}, nil
				}
			}
		}
		return content{}, errs.New(errs.Invalid, "engine.zip", "the pipeline %s made no file %q", res.Pipeline, res.Made)
	case res.URLs != nil:
		s := r.source(res.URLs)
		if s.err != nil {
			return content{}, s.err
		}
		if s.spool != nil {
			return content{"", s.digest, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(s.spool.reader()), nil }}, nil
		}
		// It was not read in this run, since all that is made of it is there.
		for _, c := range s.copies {
			if o, ok := c.published(); ok {
				return content{"", o.SHA256, kept(o)}, nil
			}
		}
		return content{"", s.digest, func(ctx context.Context) (io.ReadCloser, error) { return r.open(ctx, s) }}, nil
	}
	sum := sha256.Sum256(res.Text)
	return content{"", hex.EncodeToString(sum[:]), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(res.Text)), nil
	}}, nil
}

// addContent adds a file to an archive. What an earlier archive holds already is copied
// as it was compressed: it would be the same bytes.
func (r *run) addContent(ctx context.Context, w *zip.Writer, path string, c content, earlier map[string]*zip.File) (int64, error) {
	if e := earlier[path+" "+c.sha256]; e != nil {
		if err := checkPath(path); err != nil {
			return 0, err
		}
		return int64(e.UncompressedSize64), copyEntry(ctx, w, e)
	}
	body, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return addEntry(w, path, format.Bound(ctx, body))
}

// copyEntry copies an entry of an earlier archive as it was compressed.
func copyEntry(ctx context.Context, w *zip.Writer, e *zip.File) error {
	from, err := e.OpenRaw()
	if err != nil {
		return err
	}
	header := e.FileHeader
	to, err := w.CreateRaw(&header)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, format.Bound(ctx, from))
	return err
}

// earlierZip gives the entries of the archive that an earlier flow made, by path and
// SHA-256. One that cannot be read is as if there was none.
func (r *run) earlierZip(ctx context.Context, n *node) (entries map[string]*zip.File, done func()) {
	entries = map[string]*zip.File{}
	for _, e := range r.Earlier[n.artifact] {
		if len(e.Result.Parts) == 0 || len(e.Result.Outputs) != 1 || !r.there(ctx, e.Result) {
			continue
		}
		o := e.Result.Outputs[0]
		body, err := r.Sink.Open(ctx, o.Key)
		if err != nil {
			continue
		}
		file, ok := body.(io.ReaderAt)
		if !ok { // an archive is read from its end
			body.Close()
			continue
		}
		archive, err := zip.NewReader(file, o.Bytes)
		if err != nil {
			body.Close()
			continue
		}
		for _, f := range archive.File {
			if hash := e.Result.Parts[f.Name]; hash != "" {
				entries[f.Name+" "+hash] = f
			}
		}
		return entries, func() { body.Close() }
	}
	return entries, func() {}
}
