package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/processor"
)

// made is a finished file and what is to be said of it.
type made struct {
	descriptor map[string]any // its path is the one inside a package
	spool      *spool
	rows       *int64 // of a table
}

// hashOf is how descriptors write a SHA-256.
func hashOf(hexadecimal string) string { return "sha256:" + hexadecimal }

// publishTable publishes one form of a table.
func (r *run) publishTable(ctx context.Context, o *output) (*Result, error) {
	if err := o.failure(); err != nil {
		return nil, err
	}
	if o.whole() {
		if err := o.writeWhole(ctx); err != nil {
			return nil, err
		}
	}
	d := map[string]any{}
	if o.of != nil {
		// What another pipeline made is described as it did.
		maps.Copy(d, r.describe(o.resource))
	} else {
		maps.Copy(d, o.resource.Descriptor)
		d["schema"] = o.variant.schema.CanonicalDescriptor()
		delete(d, "encoding")
		delete(d, "dialect")
		switch o.format() {
		case "csv":
			d["encoding"], d["dialect"] = "utf-8", csv.Canonical()
		case "json":
			d["encoding"] = "utf-8"
		}
		cleanDescriptor(d)
	}
	o.node.logf("read %d rows of %s", o.table.rows.Load(), o.table.source.info.Name)
	defer func() { o.spool.close(); o.spool = nil }()
	return r.publish(ctx, o.node, []made{{d, o.spool, &o.rows}})
}

// publishCopy publishes a source as it is.
func (r *run) publishCopy(ctx context.Context, c *copyOf, s *source) (*Result, error) {
	if s.err != nil {
		return nil, s.err
	}
	d := maps.Clone(c.resource.Descriptor)
	// Counters that came with the spec are its owner's claims, not ours.
	delete(d, "rowcount")
	body := s.spool
	if c != s.copies[len(s.copies)-1] {
		// A sink may move the file away, and further pipelines want it.
		var err error
		if body, err = s.spool.again(ctx, r.Temp); err != nil {
			return nil, err
		}
		defer body.close()
	}
	c.node.logf("copied %d bytes of %s", s.spool.bytes, s.info.Name)
	return r.publish(ctx, c.node, []made{{d, body, nil}})
}

// describe gives the descriptor of a file that another pipeline made, as the
// steps of this one change it.
func (r *run) describe(res *processor.Resource) map[string]any {
	d := map[string]any{}
	if by := r.byID[res.Pipeline]; by != nil && by.result != nil {
		for _, made := range resources(by.result.Descriptor) {
			if made["name"] == res.Made {
				d = datapackage.Clone(made).(map[string]any)
			}
		}
	}
	maps.Copy(d, res.Descriptor)
	return d
}

// resources are those of a descriptor.
func resources(descriptor map[string]any) []map[string]any {
	list, _ := descriptor["resources"].([]any)
	out := make([]map[string]any, 0, len(list))
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// publish puts the files of a pipeline into the sink, and its descriptor.
func (r *run) publish(ctx context.Context, n *node, files []made) (*Result, error) {
	result := &Result{}
	descriptor := datapackage.Clone(n.pkg.Descriptor).(map[string]any)
	list := make([]any, 0, len(files))
	var rows *int64
	var total int64
	for _, f := range files {
		path, _ := f.descriptor["path"].(string)
		name, _ := f.descriptor["name"].(string)
		if err := checkPath(path); err != nil {
			return nil, err
		}
		file := File{
			Artifact: n.artifact, Path: path, SHA256: f.spool.sum(), Bytes: f.spool.bytes,
			ContentType: contentType(path, n.pkg.Dump.ContentType), Local: f.spool.file.Name(),
		}
		key, ref, err := r.Sink.Put(ctx, file)
		if err != nil {
			return nil, fmt.Errorf("keeping %s: %w", path, err)
		}
		n.logf("wrote %s, %d bytes", path, file.Bytes)
		result.Outputs = append(result.Outputs, Output{name, path, key, file.SHA256, file.Bytes})
		d := datapackage.Clone(f.descriptor).(map[string]any)
		d["path"], d["bytes"], d["hash"] = ref, file.Bytes, hashOf(file.SHA256)
		delete(d, "dpp:streamedFrom")
		total += file.Bytes
		if f.rows != nil {
			d["rowcount"] = *f.rows
			rows = add(rows, *f.rows)
		}
		list = append(list, d)
	}
	descriptor["resources"] = list
	return result, r.seal(ctx, n.artifact, descriptor, result, total, rows)
}

// checkPath refuses what would lie outside a package, wherever that is unpacked.
// A step may give a file any path.
func checkPath(path string) error {
	if !datapackage.SafePath(path) {
		return errs.New(errs.Invalid, "engine.checkPath", "the path %q must be relative and inside the package", cut(path))
	}
	return nil
}

func add(sum *int64, n int64) *int64 {
	if sum != nil {
		n += *sum
	}
	return &n
}

// seal counts and hashes a descriptor, puts it into the sink and fills the result.
func (r *run) seal(ctx context.Context, artifact string, descriptor map[string]any, result *Result, total int64, rows *int64) error {
	datahub, _ := descriptor["datahub"].(map[string]any)
	if datahub == nil {
		datahub = map[string]any{}
		descriptor["datahub"] = datahub
	}
	counters := map[string]any{"bytes": total}
	if rows != nil {
		counters["rowcount"] = *rows
	}
	datahub["stats"] = counters
	unhashed, err := encode(descriptor)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(unhashed)
	hash := hashOf(hex.EncodeToString(sum[:]))
	datahub["hash"] = hash
	body, err := encode(descriptor)
	if err != nil {
		return err
	}
	url, err := r.Sink.PutDescriptor(ctx, artifact, body)
	if err != nil {
		return fmt.Errorf("keeping the descriptor: %w", err)
	}
	kept := sha256.Sum256(body)
	result.Sealed = Sealed{SHA256: hex.EncodeToString(kept[:]), Bytes: int64(len(body))}
	result.Descriptor = descriptor
	result.Stats.Bytes = total + int64(len(body))
	result.Stats.CountOfRows = rows
	result.Stats.DatasetName, _ = descriptor["name"].(string)
	result.Stats.Hash = hash
	result.Stats.DPP.URL = url
	return nil
}

func encode(descriptor map[string]any) ([]byte, error) {
	var b bytes.Buffer
	if err := datapackage.Encode(&b, descriptor); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// join puts the packages of all other pipelines together into the dataset's.
func (r *run) join(ctx context.Context, n *node) (*Result, error) {
	descriptor := datapackage.Clone(n.pkg.Descriptor).(map[string]any)
	views, ok := descriptor["views"].([]any)
	if !ok {
		views = []any{}
	}
	list := []any{}
	var total int64
	rows := new(int64)
	for _, id := range n.pkg.Joined {
		from := r.byID[id]
		if from == nil || from.result == nil {
			return nil, errs.New(errs.Invalid, "engine.join", "the pipeline %q has no package", id)
		}
		// Of what was made in an earlier flow the views may be of an earlier spec.
		added, _ := from.pkg.Descriptor["views"].([]any)
		for _, v := range added {
			if !slices.ContainsFunc(views, func(have any) bool { return viewName(have) == viewName(v) && viewName(v) != "" }) {
				views = append(views, v)
			}
		}
		sizes := map[string]int64{}
		for _, o := range from.result.Outputs {
			sizes[o.Resource] = o.Bytes
		}
		for _, res := range resources(from.result.Descriptor) {
			res = datapackage.Clone(res).(map[string]any)
			if _, ok := res["profile"]; !ok {
				res["profile"] = "data-resource"
			}
			list = append(list, res)
			name, _ := res["name"].(string)
			total += sizes[name]
			if datahub, _ := res["datahub"].(map[string]any); datahub["type"] == "derived/csv" && from.result.Stats.CountOfRows != nil {
				rows = add(rows, *from.result.Stats.CountOfRows)
			}
		}
	}
	descriptor["resources"], descriptor["views"] = list, views
	n.logf("joined %d files", len(list))
	result := &Result{}
	return result, r.seal(ctx, "", descriptor, result, total, rows)
}

func viewName(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// contentTypes are those of what the engine writes; what a plan says wins.
var contentTypes = map[string]string{
	"parquet": "application/vnd.apache.parquet", "sqlite": "application/vnd.sqlite3",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"csv":  "text/csv; charset=utf-8", "json": "application/json", "zip": "application/zip",
}

func contentType(path, planned string) string {
	if planned != "" {
		return planned
	}
	for ext, t := range contentTypes {
		if len(path) > len(ext) && path[len(path)-len(ext)-1:] == "."+ext {
			return t
		}
	}
	return "application/octet-stream"
}
