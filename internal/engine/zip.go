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
		body, path, size, err := r.content(ctx, res.Pipeline, res.Made, res.URLs, res.Text)
		if err != nil {
			return nil, err
		}
		if path != "" {
			d["path"] = path
		}
		if res.Pipeline == "" {
			d["bytes"] = size
			delete(d, "rowcount")
		}
		err = addEntry(w, fmt.Sprint(d["path"]), &bound{ctx, body})
		body.Close()
		if err != nil {
			return nil, err
		}
		delete(d, "dpp:streamedFrom")
		if _, ok := d["profile"]; !ok {
			d["profile"] = "data-resource"
		}
		list = append(list, d)
		total += size
	}
	descriptor := datapackage.Clone(n.pkg.Zip.Descriptor).(map[string]any)
	if datahub, ok := descriptor["datahub"].(map[string]any); ok {
		datahub = maps.Clone(datahub)
		for _, k := range []string{"flowid", "created", "modified"} {
			delete(datahub, k)
		}
		descriptor["datahub"] = datahub
	}
	descriptor["resources"], descriptor["bytes"] = list, total
	body, err := encode(descriptor)
	if err != nil {
		return nil, err
	}
	if err := addEntry(w, "datapackage.json", bytes.NewReader(body)); err != nil {
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

func addEntry(w *zip.Writer, path string, body io.Reader) error {
	if err := checkPath(path); err != nil {
		return err
	}
	e, err := w.CreateHeader(&zip.FileHeader{Name: path, Method: zip.Deflate, Modified: entryTime})
	if err != nil {
		return err
	}
	_, err = io.Copy(e, body)
	return err
}

// content opens a file of the archive: one that a pipeline made, a source, or a
// text of the descriptor. path is the one inside a package where it is known.
func (r *run) content(ctx context.Context, pipeline, name string, urls []string, text []byte) (body io.ReadCloser, path string, size int64, err error) {
	switch {
	case pipeline != "":
		if by := r.byID[pipeline]; by != nil && by.result != nil {
			for _, o := range by.result.Outputs {
				if o.Resource == name {
					body, err = r.Sink.Open(ctx, o.Key)
					return body, o.Path, o.Bytes, err
				}
			}
		}
		return nil, "", 0, errs.New(errs.Invalid, "engine.zip", "the pipeline %s made no file %q", pipeline, name)
	case urls != nil:
		s := r.source(urls)
		if s.err != nil {
			return nil, "", 0, s.err
		}
		if s.spool == nil {
			return nil, "", 0, fmt.Errorf("engine.zip: source %q was not read", name)
		}
		return io.NopCloser(s.spool.reader()), "", s.spool.bytes, nil
	}
	return io.NopCloser(bytes.NewReader(text)), "", int64(len(text)), nil
}
