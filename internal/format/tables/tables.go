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
	"strings"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/format/xlsx"
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
// where it is one, else a copy in dir, which the caller removes. The copying ends with
// ctx.
func Spool(ctx context.Context, r io.Reader, dir string) func() (string, error) {
	return func() (string, error) {
		if f, ok := r.(*os.File); ok {
			return f.Name(), nil
		}
		f, err := os.CreateTemp(dir, "whole-")
		if err != nil {
			return "", err
		}
		_, err = io.Copy(f, format.Bound(ctx, r))
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
	// Sniff has the delimiter of a text found out where none is named, also beside a
	// dialect; else a dialect without one means commas.
	Sniff bool
	// MaxUnpacked is how many bytes a compressed file may unpack to; 0 is 64 GiB.
	MaxUnpacked int64
	// AnyCase has keys of JSON taken for fields of the schema in any case of letters.
	AnyCase bool
	// First has the first of several files in a ZIP archive read, where none is named,
	// as datapackage-pipelines does; else they are an error.
	First bool
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
	named = strings.ToLower(strings.TrimPrefix(named, "."))
	switch named { // other endings of the same
	case "db", "sqlite3":
		return "sqlite"
	case "tab":
		return "tsv"
	}
	return named
}

// Formats are those that are read as tables, packed with gzip or zip as well.
func Formats() []string {
	return []string{"csv", "tsv", "psv", "json", "ndjson", "jsonl", "geojson", "xlsx", "ods", "parquet", "sqlite"}
}

// Readable reports whether a format is read as a table.
func Readable(name string) bool {
	name = FormatOf(nil, name)
	return name == "" || name == "txt" || name == "dat" || slices.Contains(Formats(), name)
}

// Kind is what a resource without a schema most likely is.
type Kind int

// The kinds of resources.
const (
	Other      Kind = iota // no table
	MaybeTable             // one, if its content is
	SurelyTable
)

// KindOf says of a resource without a schema whether it is a table: by what it says of
// itself, else by the format of its file.
func KindOf(resource map[string]any, named string) Kind {
	if resource["profile"] == "tabular-data-resource" || resource["type"] == "table" {
		return SurelyTable
	}
	packed, name, err := compression(resource, FormatOf(resource, named))
	if err != nil {
		return SurelyTable // reading says what is wrong
	}
	switch {
	case name == "json", name == "sqlite", packed == "zip" && name == "":
		return MaybeTable
	case name == "", name == "txt", name == "dat", name == "geojson", !Readable(name):
		return Other
	}
	return SurelyTable
}

// Open opens a file as a table. Its error is a [format.Error] where the file or its
// description is to blame. The reader ends with ctx, however much it reads for one batch.
//
// A packed file is unpacked on the way: gzip, and the one file of a ZIP archive. It is
// known by `compression`, by a name that ends in .gz or .zip, or, of gzip, by its bytes.
func Open(ctx context.Context, src Source, o Options) (format.Reader, error) {
	packed, name, err := compression(o.Resource, FormatOf(o.Resource, o.Format))
	if err != nil {
		return nil, err
	}
	src.Reader = format.Bound(ctx, src.Reader)
	if packed == "" {
		return open(ctx, src, name, o, false)
	}
	inside, err := Unpack(ctx, src, packed, o)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = FormatOf(nil, path.Ext(inside.Name))
	}
	reader, err := open(ctx, inside.Source, name, o, true)
	if err != nil {
		inside.Close()
		return nil, err
	}
	return &closing{reader, inside.Close}, nil
}

// open opens a file that is not packed, or no more.
func open(ctx context.Context, src Source, name string, o Options, inside bool) (format.Reader, error) {
	name = FormatOf(nil, name)
	switch {
	case !Readable(name) && name != "xls" && name != "xlsb":
		return nil, &format.Error{Code: format.CodeFormat, Message: fmt.Sprintf("format %q cannot be read as a table; the formats that can are %s", name, strings.Join(Formats(), ", "))}
	case name == "xls", name == "xlsb":
		return nil, &format.Error{Code: format.CodeFormat, Message: fmt.Sprintf("workbooks of the format %s cannot be read: save it as XLSX, ODS or CSV", strings.ToUpper(name))}
	case name == "geojson" && !tabular(o.Resource):
		return nil, &format.Error{Code: format.CodeFormat, Message: "GeoJSON is read as a table only where the resource says so: with `format` geojson, a tabular profile or a schema"}
	}
	switch name {
	case "xlsx":
		return openXLSX(ctx, src, o)
	case "ods":
		return openODS(ctx, src, o)
	case "parquet":
		return openParquet(ctx, src, o)
	case "sqlite":
		return openSQLite(ctx, src, o)
	}
	r, err := plain(src.Reader, inside, o.mostUnpacked())
	if err != nil {
		return nil, err
	}
	switch name {
	case "json", "ndjson", "jsonl", "geojson":
		return openJSON(ctx, r, name, o)
	}
	return openCSV(r, name, o)
}

// tabular says that a resource is meant to be a table.
func tabular(resource map[string]any) bool {
	return resource["format"] == "geojson" || resource["schema"] != nil ||
		resource["profile"] == "tabular-data-resource" || resource["type"] == "table"
}

func openCSV(r io.Reader, name string, o Options) (format.Reader, error) {
	d, labels, err := csvDialect(o.Resource, name)
	if err != nil {
		return nil, err
	}
	if dialect, _ := o.Resource["dialect"].(map[string]any); o.Sniff && dialect["delimiter"] == nil && o.Resource["delimiter"] == nil && delimiters()[name] == "" {
		d.Delimiter = ""
	}
	encoding, _ := o.Resource["encoding"].(string)
	reader, err := csv.NewReader(r, csv.Options{Dialect: &d, Encoding: encoding, Pool: o.Pool, Titles: headerOpen(o.Resource)})
	if err != nil {
		return nil, err
	}
	return withLabels(reader, labels), nil
}

// headerOpen reports whether a resource leaves it open which row is the header.
func headerOpen(resource map[string]any) bool {
	dialect, _ := resource["dialect"].(map[string]any)
	for _, key := range []string{"header", "headerRows", "headerJoin", "commentRows", "commentChar", "skipRows"} {
		if dialect[key] != nil {
			return false
		}
	}
	return resource["skip_rows"] == nil && resource["headers"] == nil
}

// delimiters are those of formats that say them.
func delimiters() map[string]string { return map[string]string{"tsv": "\t", "psv": "|"} }

// csvDialect is what a resource says of how its file is written, and the labels that do
// not stand in it. The delimiter is empty, and found out, where the resource says
// nothing at all.
func csvDialect(resource map[string]any, name string) (format.Dialect, []string, error) {
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
	if by, ok := delimiters()[name]; ok && dialect["delimiter"] == nil {
		dialect["delimiter"] = by
	}
	d, err := parseDialect(dialect)
	if err != nil {
		return d, nil, err
	}
	if len(dialect) == 0 {
		d.Delimiter = ""
	}
	return withHeader(d, resource)
}

func parseDialect(dialect map[string]any) (format.Dialect, error) {
	d, problems := format.ParseDialect(dialect)
	if len(problems) > 0 {
		return d, &format.Error{Code: CodeDialect, Message: "dialect" + problems[0].Pointer + ": " + problems[0].Message}
	}
	return d, nil
}

// HeaderLines is how many lines at the start of a text file hold its header, rows that
// are skipped before it included.
func HeaderLines(resource map[string]any) int {
	name := FormatOf(resource, "")
	switch name {
	case "ndjson", "jsonl":
		return 0
	}
	d, _, err := csvDialect(resource, name)
	switch {
	case err != nil:
		return 1
	case !d.Header:
		return d.SkipRows
	case len(d.HeaderRows) > 0:
		return slices.Max(d.HeaderRows)
	}
	return d.SkipRows + 1
}

// Typed reports whether a table's format has rows and values of its own, so that a row
// without any value is a row; text and sheets have lines that hold nothing.
func Typed(r format.Reader) bool {
	switch innermost(r).(type) {
	case *csv.Reader, *xlsx.Reader, *xlsx.ODSReader:
		return false
	}
	return true
}
