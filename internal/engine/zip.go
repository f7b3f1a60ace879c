package engine

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
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

	list := []any{}
	var total int64
	for _, res := range n.pkg.Zip.Resources {
		d := r.describe(res)
		body, path, err := r.content(ctx, res)
		if err != nil {
			return nil, err
		}
		if path != "" {
			d["path"] = path
		}
		size, err := addEntry(w, fmt.Sprint(d["path"]), &bound{ctx, body})
		body.Close()
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

// content opens a file of the archive: one that a pipeline made, a source, or a
// text of the descriptor. path is the one inside a package where it is known.
func (r *run) content(ctx context.Context, res *processor.Resource) (body io.ReadCloser, path string, err error) {
	switch {
	case res.Pipeline != "":
		if by := r.byID[res.Pipeline]; by != nil && by.result != nil {
			for _, o := range by.result.Outputs {
				if o.Resource == res.Made {
					body, err = r.Sink.Open(ctx, o.Key)
					return body, o.Path, err
				}
			}
		}
		return nil, "", errs.New(errs.Invalid, "engine.zip", "the pipeline %s made no file %q", res.Pipeline, res.Made)
	case res.URLs != nil:
		s := r.source(res.URLs)
		if s.err != nil {
			return nil, "", s.err
		}
		if s.spool != nil {
			return io.NopCloser(s.spool.reader()), "", nil
		}
		// It was not read in this run, since all that is made of it is there.
		for _, c := range s.copies {
			if c.node.result != nil {
				body, err = r.Sink.Open(ctx, c.node.result.Outputs[0].Key)
				return body, "", err
			}
		}
		body, err = r.open(ctx, s)
		return body, "", err
	}
	return io.NopCloser(bytes.NewReader(res.Text)), "", nil
}
