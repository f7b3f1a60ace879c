package standard

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/format/jsonrows"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/stream"
)

// dump writes the package: a file for each table, and datapackage.json last. Rows
// pass on while they are written. There are two generations of it: that of names
// with a dot passes rows on as they came, the other passes on what it wrote.
type dump struct {
	old        bool // the generation of names with a dot
	zip        bool
	store      bool   // into the object store
	out        string // folder, or the ZIP file
	format     string
	force      bool // the format holds whatever the path says
	hashPath   bool
	pretty     bool
	nonTabular bool
	counters   map[string]string
}

func newDump(p *parameters) *dump {
	s := &dump{
		format: strings.ToLower(p.text("csv", "format", "file-format")), force: p.boolean(true, "force-format", "force_format"),
		hashPath: p.boolean(false, "add-filehash-to-path", "add_filehash_to_path"), pretty: p.boolean(false, "pretty-descriptor", "pretty_descriptor"),
		nonTabular: p.boolean(false, "handle-non-tabular"),
		counters: map[string]string{
			"datapackage-rowcount": "count_of_rows", "datapackage-bytes": "bytes", "datapackage-hash": "hash",
			"resource-rowcount": "", "resource-bytes": "bytes", "resource-hash": "hash",
		},
	}
	if s.format != "csv" && s.format != "json" {
		p.fail("format", "must be csv or json")
	}
	return s
}

// names reads the parameter that renames counters.
func (s *dump) names(p *parameters) *dump {
	list := p.object("counters")
	p.inside("counters", list, func(p *parameters) {
		for _, key := range slices.Sorted(maps.Keys(list)) {
			s.counters[key] = p.text(off, key)
		}
	})
	return s
}

// off in the place of a counter's name means that it is not written.
const off = "\x00"

func newDumpToPath(p *parameters) Processor {
	s := newDump(p)
	s.counters["resource-rowcount"] = off
	s.pretty = true // this generation always writes it so
	s.out = p.text(".", "out-path", "out_path")
	return s.names(p)
}

func newDumpToZip(p *parameters) Processor {
	s := newDump(p)
	s.counters["resource-rowcount"] = off
	s.pretty, s.zip = true, true
	s.out = p.required("out-file", "out_file")
	return s.names(p)
}

func newDumpDotToPath(p *parameters) Processor {
	s := newDump(p)
	s.old = true
	s.counters["resource-rowcount"] = "count_of_rows"
	s.out = p.text(".", "out-path", "out_path")
	return s.names(p)
}

func newDumpDotToZip(p *parameters) Processor {
	s := newDump(p)
	s.old, s.zip = true, true
	s.counters["resource-rowcount"] = "count_of_rows"
	s.out = p.required("out-file", "out_file")
	return s.names(p)
}

// Python's patterns of what is written.
const (
	datePattern = "%Y-%m-%d"
	timePattern = "%H:%M:%S"
)

func (s *dump) datetimePattern() string {
	if s.old {
		return datePattern + " " + timePattern
	}
	return datePattern + "T" + timePattern
}

// describe says in a resource how its file will be written.
func (s *dump) describe(r map[string]any, form Form) error {
	file, _ := r["path"].(string)
	if file == "" || file == placeholder {
		file = nameOf(r) + "." + s.format
	}
	if !datapackage.SafePath(file) {
		return invalid("the resource %q has the path %q, which leaves the package", nameOf(r), file)
	}
	ext := strings.ToLower(strings.TrimPrefix(path.Ext(file), "."))
	as := s.format
	if !s.force && (ext == "csv" || ext == "json") {
		as = ext
	}
	r["path"] = strings.TrimSuffix(file, path.Ext(file)) + "." + as
	r["encoding"], r["format"] = "utf-8", as
	if as == "csv" {
		r["dialect"] = csv.Canonical()
	} else {
		delete(r, "dialect")
		if !s.old {
			r["mediatype"], r["profile"] = "text/json", "tabular-data-resource"
		}
	}
	if !s.old {
		expandResource(r)
	}
	for _, f := range fields(r) {
		s.describeField(f, as, form)
	}
	return nil
}

func (s *dump) describeField(f map[string]any, as string, form Form) {
	patterns := map[any]string{"date": datePattern, "time": timePattern, "datetime": s.datetimePattern()}
	switch kind := f["type"]; {
	case kind == "number" && as == "csv":
		f["decimalChar"], f["groupChar"] = ".", ""
		delete(f, "bareNumber")
	case kind == "boolean" && as == "csv" && form == DPP:
		f["trueValues"], f["falseValues"] = []any{"True"}, []any{"False"}
	case kind == "boolean" && as == "csv":
		delete(f, "trueValues")
		delete(f, "falseValues")
	case patterns[kind] != "" && form == DPP:
		f["format"] = patterns[kind]
	case patterns[kind] != "":
		f["format"] = "default"
	}
}

// Process describes the files that will be written.
func (s *dump) Process(ctx context.Context, env *Env, p *Package) (*Package, error) {
	places := env.Places
	if s.store {
		places = env.Store
	}
	if places == nil && s.store {
		return nil, invalid("there is no object store to write to here")
	}
	if places == nil {
		return nil, invalid("%s: no files are written here", s.out)
	}
	// What cells are read by is the schema as it comes.
	casts := map[string][]*caster{}
	for _, r := range p.resources() {
		if !streaming(r) {
			continue
		}
		list, err := casters(r)
		if err != nil {
			return nil, rowlessError(r, err)
		}
		if err := s.describe(r, env.Form); err != nil {
			return nil, err
		}
		casts[identity(r)] = list
	}
	if !s.old {
		expand(p.Descriptor)
	}
	w := &dumping{dump: s, env: env, places: places, casts: casts, made: map[string]written{}}
	up, stats := p.Tables, p.Stats
	p.Tables = func(yield func(*Table, error) bool) { w.tables(ctx, p, up, yield) }
	p.Stats = func() map[string]any {
		out := maps.Clone(stats())
		maps.Copy(out, w.stats)
		return out
	}
	return p, nil
}

// dumping is a dump under way.
type dumping struct {
	*dump
	env    *Env
	places Places
	casts  map[string][]*caster
	made   map[string]written
	files  []written // in order
	stats  map[string]any
}

// written is a finished file.
type written struct {
	path, local string
	rows, bytes int64
	hash        string
}

func (w *dumping) tables(ctx context.Context, p *Package, up iter.Seq2[*Table, error], yield func(*Table, error) bool) {
	defer func() {
		for _, f := range w.files {
			os.Remove(f.local) // those that were put are gone
		}
	}()
	for t, err := range up {
		if err != nil {
			yield(nil, err)
			return
		}
		more, err := w.table(t, yield)
		if err != nil {
			yield(nil, err)
		}
		if err != nil || !more {
			return
		}
	}
	if err := w.finish(ctx, p.Descriptor); err != nil {
		yield(nil, err)
	}
}

// table writes one table while it passes.
func (w *dumping) table(t *Table, yield func(*Table, error) bool) (bool, error) {
	f, err := w.create()
	if err != nil {
		return false, err
	}
	defer f.abandon()
	out, err := w.writer(t, f)
	if err != nil {
		return false, err
	}
	casts := w.casts[identity(t.Resource)]
	kept := &stream.Batch{}
	more, err := passOn(t, yield, func(b *stream.Batch) (*stream.Batch, error) {
		kept.Reset()
		for r := range b.Rows() {
			for c, cast := range casts {
				if err := cast.append(kept, b.Kind(r, c), b.Cell(r, c)); err != nil {
					return nil, rowError(t, b.Number(r), err)
				}
			}
			if b.Width(r) > len(casts) {
				return nil, rowError(t, b.Number(r), invalid("the row has keys that are no fields: %s", b.Cell(r, len(casts))))
			}
			kept.EndRow(b.Number(r))
		}
		if err := tooLong(t.Resource, kept); err != nil {
			return nil, err
		}
		if err := out.write(kept); err != nil {
			return nil, err
		}
		f.rows += int64(kept.Rows())
		if w.old {
			return b, nil
		}
		return kept, nil
	})
	if err != nil || !more {
		return false, err
	}
	if err := out.close(); err != nil {
		return false, err
	}
	done, err := f.done()
	if err != nil {
		return false, err
	}
	done.path, _ = t.Resource["path"].(string)
	if w.hashPath && w.old {
		done.path = hashedPath(done.path, done.hash)
	}
	w.made[identity(t.Resource)] = done
	w.files = append(w.files, done)
	return true, nil
}

func hashedPath(file, sum string) string {
	return path.Join(path.Dir(file), sum, path.Base(file))
}

// temporary is a file in the making.
type temporary struct {
	file  *os.File
	w     *bufio.Writer
	sum   hash.Hash
	name  string // of the hash, before its digits
	lines bool   // line ends are hashed as LF
	cr    bool
	rows  int64
	bytes int64
}

func (w *dumping) create() (*temporary, error) {
	f, err := os.CreateTemp(w.env.Temp, "dump-")
	if err != nil {
		return nil, fmt.Errorf("standard: %w", err)
	}
	t := &temporary{file: f, w: bufio.NewWriterSize(f, 64<<10), sum: md5.New(), lines: w.old}
	if w.env.Form == Canonical {
		t.sum, t.name, t.lines = sha256.New(), "sha256:", false
	}
	return t, nil
}

func (t *temporary) Write(p []byte) (int, error) {
	t.bytes += int64(len(p))
	if !t.lines {
		t.sum.Write(p)
		return t.w.Write(p)
	}
	from := 0
	for i, c := range p {
		if t.cr {
			t.cr = false
			if c == '\n' { // the LF was hashed for the CR
				t.sum.Write(p[from:i])
				from = i + 1
				continue
			}
		}
		if c == '\r' {
			t.sum.Write(p[from:i])
			t.sum.Write([]byte{'\n'})
			from, t.cr = i+1, true
		}
	}
	t.sum.Write(p[from:])
	return t.w.Write(p)
}

func (t *temporary) done() (written, error) {
	err := t.w.Flush()
	if closed := t.file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return written{}, fmt.Errorf("standard: %w", err)
	}
	w := written{local: t.file.Name(), rows: t.rows, bytes: t.bytes, hash: t.name + hex.EncodeToString(t.sum.Sum(nil))}
	t.file = nil
	return w, nil
}

// abandon removes the file, unless it is done.
func (t *temporary) abandon() {
	if t.file != nil {
		t.file.Close()
		os.Remove(t.file.Name())
	}
}

// tableWriter writes cells that were cast.
type tableWriter struct {
	write func(*stream.Batch) error
	close func() error
}

func (w *dumping) writer(t *Table, to io.Writer) (*tableWriter, error) {
	casts := w.casts[identity(t.Resource)]
	names := make([]string, len(casts))
	for i, c := range casts {
		names[i] = c.name
	}
	if t.Resource["format"] == "csv" {
		out := csv.NewWriter(to)
		if w.env.Form == Canonical {
			return &tableWriter{untaggedCells(out.WriteBatch), out.Close}, out.WriteHeader(names)
		}
		texts := &stream.Batch{}
		return &tableWriter{func(b *stream.Batch) error {
			texts.Reset()
			for r := range b.Rows() {
				for c, cast := range casts {
					texts.Append(w.text(cast, b.Kind(r, c), b.Cell(r, c)))
				}
				texts.EndRow(b.Number(r))
			}
			if err := tooLong(t.Resource, texts); err != nil {
				return err
			}
			return out.WriteBatch(texts)
		}, out.Close}, out.WriteHeader(names)
	}
	if w.env.Form == Canonical {
		var values []func(dst, text []byte) []byte
		for _, c := range casts {
			values = append(values, c.cast.AppendJSON)
		}
		out := jsonrows.NewWriter(to, names, values)
		return &tableWriter{untaggedCells(out.WriteBatch), out.Close}, nil
	}
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	var buf []byte
	first := true
	return &tableWriter{func(b *stream.Batch) error {
		for r := range b.Rows() {
			buf = buf[:0]
			if first {
				buf = append(buf, '[')
			} else {
				buf = append(buf, ',')
			}
			first = false
			buf = append(buf, '{')
			for i, c := range order {
				if i > 0 {
					buf = append(buf, ", "...)
				}
				buf = append(python.AppendString(buf, names[c], true), ": "...)
				buf = w.json(buf, casts[c], b.Kind(r, c), b.Cell(r, c))
			}
			if _, err := to.Write(append(buf, '}')); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		end := "]"
		if first {
			end = "[]"
		}
		_, err := io.WriteString(to, end)
		return err
	}}, nil
}

// text is a cell in CSV as Python writes it.
func (w *dumping) text(c *caster, k stream.Kind, text []byte) []byte {
	switch k {
	case stream.Null, stream.Absent:
		return nil
	case stream.Boolean:
		return []byte(python.Str(k, text))
	case stream.Datetime:
		if w.old {
			return []byte(strings.Replace(string(text), "T", " ", 1))
		}
	case stream.Integer:
		if c.kind == "year" && len(text) < 4 && text[0] != '-' {
			return append(bytes.Repeat([]byte{'0'}, 4-len(text)), text...)
		}
	case stream.JSON:
		if inner, ok := untagged(text, tagDuration); ok {
			return []byte(inner)
		}
		if c.kind == "geojson" {
			return python.AppendASCII(nil, text)
		}
	default: // of the others there is nothing to say
	}
	return text
}

// untagged is the text of a typed value of one tag.
func untagged(text []byte, tag string) (string, bool) {
	if !strings.HasPrefix(string(text), `{"`+tag) {
		return "", false
	}
	v, err := python.ParseJSON(text)
	if err != nil {
		return "", false
	}
	m, _ := v.(map[string]any)
	inner, ok := m[tag].(string)
	return inner, ok && len(m) == 1
}

// untaggedCells gives a writer of default forms cells without the tags of the wire.
func untaggedCells(write func(*stream.Batch) error) func(*stream.Batch) error {
	plain := &stream.Batch{}
	return func(b *stream.Batch) error {
		plain.Reset()
		for r := range b.Rows() {
			for c := range b.Width(r) {
				k, text := b.Kind(r, c), b.Cell(r, c)
				if inner, ok := untagged(text, tagDuration); ok && k == stream.JSON {
					k, text = stream.Text, []byte(inner)
				}
				plain.AppendKind(k, text)
			}
			plain.EndRow(b.Number(r))
		}
		return write(plain)
	}
}

// json appends a cell in JSON as Python writes it.
func (w *dumping) json(dst []byte, c *caster, k stream.Kind, text []byte) []byte {
	switch k {
	case stream.Null, stream.Absent:
		return append(dst, "null"...)
	case stream.Number:
		if n := string(text); n == "NaN" || strings.HasSuffix(n, "Infinity") {
			return python.AppendString(dst, text, true) // a bare NaN is no JSON
		}
		at := len(dst)
		dst = python.AppendNumber(dst, string(text))
		if !bytes.ContainsAny(dst[at:], ".eE") {
			dst = append(dst, ".0"...)
		}
		return dst
	case stream.Integer, stream.Boolean, stream.Float:
		return append(dst, text...)
	case stream.JSON:
		if inner, ok := untagged(text, tagDuration); ok {
			return python.AppendString(dst, inner, true)
		}
		return python.AppendASCII(dst, text)
	default: // of the others there is nothing to say
	}
	return python.AppendString(dst, w.text(c, k, text), true)
}

func rowlessError(r map[string]any, err error) error {
	return invalid("resource %q: the schema is wrong: %s", nameOf(r), err)
}

// setCounter sets a counter by its name, in which points part levels.
func setCounter(m map[string]any, name string, v any) {
	if name == off {
		return
	}
	parts := strings.Split(name, ".")
	for _, part := range parts[:len(parts)-1] {
		inner, ok := m[part].(map[string]any)
		if !ok {
			inner = map[string]any{}
			m[part] = inner
		}
		m = inner
	}
	m[parts[len(parts)-1]] = v
}

// finish writes the descriptor and hands everything over.
func (w *dumping) finish(ctx context.Context, descriptor map[string]any) error {
	resources := (&Package{Descriptor: descriptor}).resources()
	descriptor = clone(descriptor)
	copies := (&Package{Descriptor: descriptor}).resources()
	var rows, size int64
	tabular := false
	for i, r := range resources {
		made, ok := w.made[identity(r)]
		if !ok {
			continue
		}
		tabular = true
		rows += made.rows
		size += made.bytes
		copies[i]["path"] = made.path
		setCounter(copies[i], w.counters["resource-rowcount"], made.rows)
		setCounter(copies[i], w.counters["resource-bytes"], made.bytes)
		setCounter(copies[i], w.counters["resource-hash"], made.hash)
	}
	if tabular {
		setCounter(descriptor, w.counters["datapackage-rowcount"], rows)
	}
	sum := md5.New()
	indent := 0
	if w.pretty {
		indent = 2
	}
	if !w.nonTabular {
		setCounter(descriptor, w.counters["datapackage-bytes"], size)
	}
	sum.Write(python.JSON{ASCII: true, Indent: indent}.Append(nil, descriptor))
	hash := hex.EncodeToString(sum.Sum(nil))
	if w.nonTabular {
		n, err := w.copyFiles(ctx, copies)
		if err != nil {
			return err
		}
		size += n
		setCounter(descriptor, w.counters["datapackage-bytes"], size)
	}
	setCounter(descriptor, w.counters["datapackage-hash"], hash)
	if w.old {
		for _, r := range copies {
			delete(r, "dpp:streaming")
		}
	}
	body := python.JSON{Indent: indent}.Append(nil, descriptor)
	f, err := w.create()
	if err != nil {
		return err
	}
	defer f.abandon()
	if _, err := f.Write(body); err != nil {
		return err
	}
	done, err := f.done()
	if err != nil {
		return err
	}
	done.path = "datapackage.json"
	w.files = append(w.files, done)
	if err := w.put(ctx); err != nil {
		return err
	}
	w.stats = map[string]any{"bytes": size + int64(len(body)), "hash": hash, "dataset_name": descriptor["name"], "count_of_rows": nil}
	if tabular {
		w.stats["count_of_rows"] = rows
	}
	if !w.zip {
		w.stats[".dpp"] = map[string]any{"out-datapackage-url": path.Join(w.out, "datapackage.json")}
	}
	return nil
}

// copyFiles copies the files that are no tables, as they are.
func (w *dumping) copyFiles(ctx context.Context, resources []map[string]any) (int64, error) {
	total := int64(0)
	for _, r := range resources {
		url, _ := r["dpp:streamedFrom"].(string)
		if streaming(r) || url == "" {
			continue
		}
		file, _ := r["path"].(string)
		if !datapackage.SafePath(file) {
			return 0, invalid("the resource %q has the path %q, which leaves the package", nameOf(r), file)
		}
		done, err := w.copyFile(ctx, url)
		if err != nil {
			return 0, err
		}
		done.path = file
		if w.hashPath && w.old {
			done.path = hashedPath(file, done.hash)
		}
		r["path"] = done.path
		setCounter(r, w.counters["resource-bytes"], done.bytes)
		total += done.bytes
		w.files = append(w.files, done)
	}
	return total, nil
}

func (w *dumping) copyFile(ctx context.Context, url string) (written, error) {
	if w.env.Sources == nil {
		return written{}, invalid("%s: no files are read here", url)
	}
	body, err := w.env.Sources.Open(ctx, strings.TrimPrefix(url, "file://"))
	if err != nil {
		return written{}, err
	}
	defer body.Close()
	f, err := w.create()
	if err != nil {
		return written{}, err
	}
	defer f.abandon()
	f.lines = false
	if _, err := io.Copy(f, body); err != nil {
		return written{}, err
	}
	return f.done()
}

// put hands the files over, or the archive of them.
func (w *dumping) put(ctx context.Context) error {
	if !w.zip {
		for _, f := range w.files {
			if err := w.places.Put(ctx, path.Join(w.out, f.path), f.local); err != nil {
				return err
			}
		}
		return nil
	}
	f, err := w.create()
	if err != nil {
		return err
	}
	defer f.abandon()
	z := zip.NewWriter(f)
	for _, one := range w.files {
		if err := addEntry(z, one); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	done, err := f.done()
	if err != nil {
		return err
	}
	defer os.Remove(done.local)
	return w.places.Put(ctx, w.out, done.local)
}

func addEntry(z *zip.Writer, f written) error {
	in, err := os.Open(f.local)
	if err != nil {
		return err
	}
	defer in.Close()
	// One time for all: the same package gives the same bytes.
	out, err := z.CreateHeader(&zip.FileHeader{Name: f.path, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}
