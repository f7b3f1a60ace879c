// Package tables opens the file of a resource as a table, whatever its format.
//
// What the resource says of its file (format, dialect, encoding, reader options) is
// obeyed; what it does not say is found out from the bytes. A file is read as a
// stream where its format allows that. Other formats are read from a file that
// holds all of it, and keep memory bounded all the same.
package tables

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/stream"
)

// Source is the file of a resource.
type Source struct {
	// Reader gives its bytes from the first.
	Reader io.Reader
	// Whole gives the path of a file that holds all bytes, those that Reader has
	// given and the rest. It is called once at most, and Reader is not read then.
	Whole func() (path string, err error)
}

// Spool is a Whole for a reader of which nothing was read: the reader's own file
// where it is one, else a copy in dir, which the caller removes.
func Spool(r io.Reader, dir string) func() (string, error) {
	return func() (string, error) {
		if f, ok := r.(*os.File); ok {
			return f.Name(), nil
		}
		f, err := os.CreateTemp(dir, "whole-")
		if err != nil {
			return "", err
		}
		_, err = io.Copy(f, r)
		if closed := f.Close(); err == nil {
			err = closed
		}
		return f.Name(), err
	}
}

// Options say how a table is read.
type Options struct {
	// Resource is its descriptor.
	Resource map[string]any
	// Format is what the file's name says, where the descriptor says nothing.
	Format string
	Pool   *stream.Pool // lends the batches; nil: one of its own
	Temp   string       // folder for temporary files
}

// CodeDialect is the code of a [format.Error] for reader options that are wrong.
const CodeDialect = "dialect-error"

// ReaderOptions are the properties by which a resource itself says how its file is
// read, as the `tabulator` of a processing entry puts them there. They do not hold
// for what is made of it.
func ReaderOptions() []string {
	return []string{
		"delimiter", "quotechar", "escapechar", "doublequote", "skipinitialspace", "skip_rows", "headers",
		"lineterminator", "quoting", "sheet", "sample_size", "scheme", "force_strings", "force_parse", "allow_html", "compression", "innerpath", "property",
	}
}

// FormatOf is the format of a resource in lower case: what its descriptor says,
// else what its file's name says.
func FormatOf(resource map[string]any, named string) string {
	if f, ok := resource["format"].(string); ok && f != "" {
		named = f
	}
	return strings.ToLower(strings.TrimPrefix(named, "."))
}

// Formats are those that are read as tables, packed with gzip or zip as well.
func Formats() []string {
	return []string{"csv", "tsv", "json", "ndjson", "jsonl", "geojson", "xlsx", "parquet", "sqlite"}
}

// Readable reports whether a format is read as a table.
func Readable(name string) bool {
	return name == "" || name == "txt" || slices.Contains(Formats(), name)
}

// Open opens a file as a table. Its error is a [format.Error] where the file or its
// description is to blame.
//
// A packed file is unpacked on the way: gzip, and the one file of a ZIP archive. It is
// known by `compression`, by a name that ends in .gz or .zip, or, of gzip, by its bytes.
func Open(ctx context.Context, src Source, o Options) (format.Reader, error) {
	packed, name, err := compression(o.Resource, FormatOf(o.Resource, o.Format))
	if err != nil {
		return nil, err
	}
	if packed == "" {
		return open(ctx, src, name, o, false)
	}
	inside, err := unpack(src, packed, o)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = strings.ToLower(strings.TrimPrefix(path.Ext(inside.name), "."))
	}
	reader, err := open(ctx, inside.Source, name, o, true)
	if err != nil {
		inside.Close()
		return nil, err
	}
	return &closing{reader, inside.Close}, nil
}

// open opens a file that is not packed, or no more.
func open(_ context.Context, src Source, name string, o Options, inside bool) (format.Reader, error) {
	switch {
	case !Readable(name):
		return nil, &format.Error{Code: format.CodeFormat, Message: fmt.Sprintf("format %q cannot be read as a table; the formats that can are %s", name, strings.Join(Formats(), ", "))}
	case name == "geojson" && !tabular(o.Resource):
		return nil, &format.Error{Code: format.CodeFormat, Message: "GeoJSON is read as a table only where the resource says so: with `format` geojson, a tabular profile or a schema"}
	}
	switch name {
	case "xlsx":
		return openXLSX(src, o)
	case "parquet":
		return openParquet(src, o)
	case "sqlite":
		return openSQLite(src, o)
	}
	r, err := plain(src.Reader, inside)
	if err != nil {
		return nil, err
	}
	switch name {
	case "json", "ndjson", "jsonl", "geojson":
		return openJSON(r, name, o)
	}
	return openCSV(r, name, o)
}

// tabular says that a resource is meant to be a table.
func tabular(resource map[string]any) bool {
	return resource["format"] == "geojson" || resource["schema"] != nil ||
		resource["profile"] == "tabular-data-resource" || resource["type"] == "table"
}

func openCSV(r io.Reader, name string, o Options) (format.Reader, error) {
	options, err := csvOptions(o.Resource, name)
	if err != nil {
		return nil, err
	}
	labels, err := headers(o.Resource["headers"], &options)
	if err != nil {
		return nil, err
	}
	options.Pool = o.Pool
	reader, err := csv.NewReader(r, options)
	if err != nil || labels == nil {
		return reader, err
	}
	return &labelled{reader, labels}, nil
}

// labelled is a table whose labels do not stand in its file.
type labelled struct {
	format.Reader
	labels []string
}

// Header gives the labels. A file without any row gives io.EOF all the same.
func (l *labelled) Header() ([]string, error) {
	if _, err := l.Reader.Header(); err != nil {
		return nil, err
	}
	return slices.Clone(l.labels), nil
}

// headers reads the reader option of that name: the number of the row that holds the
// labels, the first and the last of several, 0 or false for none, or the labels.
func headers(v any, o *csv.Options) ([]string, error) {
	wrong := &format.Error{Code: CodeDialect, Message: "headers: must be the number of the header row, the first and the last of several, or a list of labels"}
	var first, last int
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		if v {
			return nil, nil
		}
	case []any:
		labels := make([]string, len(v))
		texts := len(v) > 0 && len(v) <= format.MaxColumns
		for i, label := range v[:min(len(v), format.MaxColumns)] {
			text, ok := label.(string)
			labels[i], texts = strings.TrimSpace(text), texts && ok
		}
		if texts {
			o.NoHeader = true
			return labels, nil
		}
		if len(v) != 2 {
			return nil, wrong
		}
		var err error
		if first, err = wholeNumber("headers", v[0]); err == nil {
			last, err = wholeNumber("headers", v[1])
		}
		if err != nil || first < 1 || last < first {
			return nil, wrong
		}
	default:
		var err error
		if first, err = wholeNumber("headers", v); err != nil {
			return nil, wrong
		}
		last = first
	}
	switch {
	case first == 0:
		o.NoHeader = true
	case last > 1000:
		return nil, wrong
	default:
		for row := first; row <= last; row++ {
			o.HeaderRows = append(o.HeaderRows, row)
		}
	}
	return nil, nil
}

// csvOptions turns what a resource says of its file into the options of the CSV
// reader. A resource without any is sniffed.
func csvOptions(resource map[string]any, name string) (csv.Options, error) {
	o := csv.Options{}
	o.Encoding, _ = resource["encoding"].(string)
	dialect := map[string]any{}
	if d, ok := resource["dialect"].(map[string]any); ok {
		maps.Copy(dialect, d)
	}
	for from, to := range map[string]string{
		"delimiter": "delimiter", "quotechar": "quoteChar", "escapechar": "escapeChar",
		"doublequote": "doubleQuote", "skipinitialspace": "skipInitialSpace", "lineterminator": "lineTerminator",
	} {
		if v, ok := resource[from]; ok && v != nil {
			dialect[to] = v
		}
	}
	skip, err := wholeNumber("skip_rows", resource["skip_rows"])
	if err != nil {
		return o, err
	}
	o.SkipRows = skip
	if len(dialect) == 0 {
		if name != "tsv" {
			return o, nil
		}
		dialect["delimiter"] = "\t"
	}
	d, problems := format.ParseDialect(dialect)
	if len(problems) > 0 {
		return o, &format.Error{Code: CodeDialect, Message: "dialect" + problems[0].Pointer + ": " + problems[0].Message}
	}
	o.Dialect = &d
	return o, nil
}

func wholeNumber(key string, v any) (int, error) {
	if v == nil {
		return 0, nil
	}
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil || n < 0 {
		return 0, &format.Error{Code: CodeDialect, Message: key + " must be a whole number, from 0"}
	}
	return n, nil
}

// HeaderLines is how many lines at the start of a file hold its header, rows that are
// skipped before it included.
func HeaderLines(resource map[string]any) int {
	switch FormatOf(resource, "") {
	case "ndjson", "jsonl":
		return 0
	}
	o, err := csvOptions(resource, "")
	switch {
	case err != nil || o.Dialect == nil:
		return 1
	case !o.Dialect.Header:
		return 0
	case len(o.Dialect.HeaderRows) > 0:
		return o.Dialect.SkipRows + slices.Max(o.Dialect.HeaderRows)
	}
	return o.Dialect.SkipRows + 1
}
