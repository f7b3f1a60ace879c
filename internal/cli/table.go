package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/csv"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/datahq/specstore/internal/stream"
	"github.com/datahq/specstore/internal/tableschema"
	"github.com/spf13/cobra"
)

// tableFlags say how a file is read as a table.
type tableFlags struct {
	dialect, encoding, format, sheet string
	delimiter, decimal               string
	headerRow, skipRows              int
}

func (f *tableFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.dialect, "dialect", "", "how the file is written, a dialect as `JSON`; absent: it is found out")
	flags.StringVar(&f.delimiter, "delimiter", "", "what parts the cells of a text, a `character`; absent: it is found out")
	flags.StringVar(&f.decimal, "decimal-char", "", "decimal `character` of numbers; absent: it is found out")
	flags.IntVar(&f.headerRow, "header-row", 0, "`number` of the row with the labels, from 1; absent: it is found out")
	flags.IntVar(&f.skipRows, "skip-rows", 0, "`number` of rows to leave out at the start")
	flags.StringVar(&f.encoding, "encoding", "", "`encoding` of the text; absent: it is found out")
	flags.StringVar(&f.format, "format", "", "`format` of the file: "+strings.Join(tables.Formats(), ", ")+"; absent: as its name ends")
	flags.StringVar(&f.sheet, "sheet", "", "`sheet` of a workbook, by name or number")
}

// resource describes the file at a path or URL. That a table is meant is certain.
func (f *tableFlags) resource(file string) (map[string]any, error) {
	if f.format != "" {
		bare := strings.ToLower(strings.TrimPrefix(f.format, "."))
		for _, ending := range []string{".gz", ".zip"} {
			bare = strings.TrimSuffix(bare, ending)
		}
		if !tables.Readable(bare) && bare != "gz" && bare != "zip" {
			return nil, errs.New(errs.Invalid, "cli.table", "--format: %q is none of %s", f.format, strings.Join(tables.Formats(), ", "))
		}
	}
	name := filepath.Base(file)
	if isURL(file) {
		u, err := url.Parse(file)
		if err != nil {
			return nil, errs.New(errs.Invalid, "cli.table", "%s is not a URL", file)
		}
		name = path.Base(u.Path)
	}
	resource := map[string]any{"name": name, "path": name, "type": "table"}
	dialect := map[string]any{}
	if f.dialect != "" {
		d, err := datapackage.Decode(strings.NewReader(f.dialect))
		if err != nil {
			return nil, errs.New(errs.Invalid, "cli.table", "--dialect: must be a JSON object")
		}
		dialect = d
	}
	if unknown := format.UnknownKeys(dialect); len(unknown) > 0 {
		return nil, errs.New(errs.Invalid, "cli.table", "--dialect: there is no key %q of a dialect", unknown[0])
	}
	for key, value := range map[string]string{"sheet": f.sheet, "delimiter": f.delimiter, "decimalChar": f.decimal} {
		if value != "" {
			dialect[key] = value
		}
	}
	if f.headerRow < 0 || f.skipRows < 0 {
		return nil, errs.New(errs.Invalid, "cli.table", "--header-row and --skip-rows must not be negative")
	}
	if f.headerRow > 0 {
		dialect["headerRows"] = []any{f.headerRow}
	}
	if f.skipRows > 0 {
		dialect["skipRows"] = f.skipRows
	}
	if len(dialect) > 0 || f.dialect != "" {
		resource["dialect"] = dialect
	}
	if f.encoding != "" {
		resource["encoding"] = f.encoding
	}
	if f.format != "" {
		resource["format"] = f.format
	}
	return resource, nil
}

// tableFile is a file that a command reads as a table.
type tableFile struct {
	env     *Env
	file    string
	name    string // as it was given
	sources *localSources
	options tables.Options
}

// open prepares the reading of a file. close removes what it took.
func (f *tableFlags) open(env *Env, file string) (t *tableFile, closeFile func(), err error) {
	resource, err := f.resource(file)
	if err != nil {
		return nil, nil, exit(exitUsage, err)
	}
	fetcher, err := newFetch(env)
	if err != nil {
		return nil, nil, exit(exitUsage, err)
	}
	temp, err := os.MkdirTemp("", "specstore-table-")
	if err != nil {
		return nil, nil, err
	}
	given := file
	if !isURL(file) {
		file = env.path(file)
	}
	// A reader of the output that ends must not end this process before it has removed
	// its files: the write says so as well.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	name, _ := resource["path"].(string)
	return &tableFile{
		env: env, file: file, name: given, sources: &localSources{base: env.Dir, fetch: fetcher},
		options: tables.Options{Sniff: true, Resource: resource, Format: strings.TrimPrefix(path.Ext(name), "."), Temp: temp, Pool: &stream.Pool{}},
	}, func() { signal.Stop(pipe); os.RemoveAll(temp) }, nil
}

// source opens the file from its first byte.
func (t *tableFile) source(ctx context.Context) (tables.Source, func(), error) {
	body, _, err := t.sources.Open(ctx, t.file)
	if err != nil {
		return tables.Source{}, nil, err
	}
	return tables.Source{Reader: body, Whole: tables.Spool(ctx, body, t.options.Temp)}, func() { body.Close() }, nil
}

// download keeps what lies at a URL in a temporary file, which is read from then on.
func (t *tableFile) download(ctx context.Context) error {
	if !isURL(t.file) {
		return nil
	}
	src, done, err := t.source(ctx)
	if err != nil {
		return err
	}
	defer done()
	t.file, err = src.Whole()
	return err
}

// failed gives the exit code of what went wrong with a table: what was said of the
// file is wrong usage, what is wrong with the file itself is the data's fault.
func (t *tableFile) failed(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil // who read the output has enough
	}
	if e, ok := errors.AsType[*format.Error](err); ok {
		if e.Code == tables.CodeDialect {
			return exit(exitUsage, fmt.Errorf("%s: %s", t.name, e.Error()))
		}
		return exit(exitData, fmt.Errorf("%s: %s (%s)", t.name, e.Error(), e.Code))
	}
	if _, known := errors.AsType[*errs.Error](err); err == nil || known || errors.Is(err, context.Canceled) {
		return err
	}
	return exit(exitData, err) // the machine's
}

func (t *tableFile) notes(notes []string, quiet bool) {
	if quiet {
		return
	}
	for _, n := range notes {
		fmt.Fprintf(t.env.Stderr, "note: %s\n", n)
	}
}

func inferCommand(env *Env) *cobra.Command {
	var flags tableFlags
	var asJSON, quiet, explain bool
	cmd := &cobra.Command{
		Use:   "infer FILE",
		Short: "Print the Table Schema of a file, from all of its rows",
		Long: `Print the Table Schema of a file or URL as JSON, from all of its rows.

A column gets the first type that takes all of its cells: yearmonth, geopoint,
duration, geojson, object, array, datetime, time, date, integer, number, boolean,
year, else string; any where no cell has text. Decimal commas, groups of digits, dates
in the usual forms and words for true and false are found out, and marks such as NA
among values of another type are proposed as missing values. Digits with a leading zero
are text. A delimiter that is not declared is found out, and held against the whole
file. So the schema takes the file. --explain says of each column what was decided, how
many cells speak for it, and what speaks against another type; --json has it too.

Exit codes: 0 done, 1 the file cannot be read, 2 wrong usage.`,
		Example: "  specstore infer data.csv.gz\n  specstore infer data.txt --dialect '{\"delimiter\": \";\"}'",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			t, closeFile, err := flags.open(env, args[0])
			if err != nil {
				return err
			}
			defer closeFile()
			if err := t.download(ctx); err != nil {
				return err
			}
			found, err := tables.Infer(ctx, func() (tables.Source, func(), error) { return t.source(ctx) }, t.options)
			if err != nil {
				return t.failed(err)
			}
			t.notes(found.Notes, quiet)
			if explain && !asJSON {
				return t.failed(explainInference(env.text, found))
			}
			return t.failed(printSchema(&plainText{w: env.Stdout, form: jsonText}, found, asJSON))
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the schema as one line, and what was decided")
	cmd.Flags().BoolVar(&explain, "explain", false, "print what was decided of each column, and why")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no notes")
	return cmd
}

// explainInference prints a line a column: its type, how many cells are of it, what is
// missing, and why.
func explainInference(w io.Writer, found *tables.Inference) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows\n", found.Rows)
	for _, c := range found.Columns {
		fmt.Fprintf(&b, "%s: %s", c.Name, c.Type)
		for _, key := range fieldKeys() {
			if v, ok := c.Field[key]; ok && key != "name" && key != "type" && v != "default" {
				fmt.Fprintf(&b, ", %s %s", key, compactJSON(v))
			}
		}
		fmt.Fprintf(&b, "; %d values, %d empty", c.Values, c.Empty)
		for _, mark := range slices.Sorted(maps.Keys(c.Missing)) {
			fmt.Fprintf(&b, ", %d %q as missing values", c.Missing[mark], mark)
		}
		if c.Why != "" {
			fmt.Fprintf(&b, "; %s", c.Why)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fieldKeys are the keys of an inferred field, in the order in which they are printed.
func fieldKeys() []string {
	return []string{"name", "type", "format", "decimalChar", "groupChar", "trueValues", "falseValues", "missingValues"}
}

func compactJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// printSchema prints an inferred schema, the name of a field first; on one line with
// what was decided.
func printSchema(w io.Writer, found *tables.Inference, oneLine bool) error {
	fields, _ := found.Schema["fields"].([]any)
	var b bytes.Buffer
	fieldStart, between, lineEnd := "\n  ", ",", "\n"
	if oneLine {
		fieldStart, between, lineEnd = "", ", ", ""
	}
	b.WriteString(`{"fields": [`)
	for i, f := range fields {
		field, _ := f.(map[string]any)
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(fieldStart + "{")
		sep := ""
		for _, key := range fieldKeys() {
			if v, ok := field[key]; ok {
				b.WriteString(sep + `"` + key + `": ` + compactJSON(v))
				sep = ", "
			}
		}
		b.WriteByte('}')
	}
	if len(fields) > 0 {
		b.WriteString(lineEnd)
	}
	b.WriteString(`], "missingValues": ` + compactJSON(found.Schema["missingValues"]))
	if oneLine {
		b.WriteString(`, "inferred": ` + compactJSON(map[string]any{"rows": found.Rows, "columns": found.Columns, "notes": append([]string{}, found.Notes...)}))
	}
	b.WriteString("}\n")
	_, err := w.Write(b.Bytes())
	return err
}

func catCommand(env *Env) *cobra.Command {
	var flags tableFlags
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "cat FILE",
		Short: "Print the rows of a file in any format that is read as a table",
		Long: `Print the rows of a file or URL, as they stand in it: as CSV in UTF-8 with commas,
or with --json as one JSON array a line.

With --json the header comes first, null where there is none. Cells of text formats
are texts; those of formats with types are JSON values, dates as ISO text.

A terminal gets control characters, and those that turn the direction of letters, as
escapes such as \x1b. Where the output goes to a file or a program, CSV has them as they
stand in the file. JSON has them as its own escapes in both cases: it is the same text.

Exit codes: 0 done, 1 the file cannot be read (to its end), 2 wrong usage.`,
		Example: "  specstore cat data.csv.gz | head\n  specstore cat data.geojson --json",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, closeFile, err := flags.open(env, args[0])
			if err != nil {
				return err
			}
			defer closeFile()
			return t.failed(t.cat(cmd.Context(), asJSON, quiet))
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array a line")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no notes")
	return cmd
}

// cat prints the rows. What was read before an error is printed.
func (t *tableFile) cat(ctx context.Context, asJSON, quiet bool) error {
	src, done, err := t.source(ctx)
	if err != nil {
		return err
	}
	defer done()
	reader, err := tables.Open(ctx, src, t.options)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	labels, err := reader.Header()
	if err == io.EOF {
		err = &format.Error{Code: format.CodeSource, Message: "the file is empty"}
	}
	if err != nil {
		return err
	}
	out := t.env.Stdout
	if t.env.Terminal {
		out = &plainText{w: out, form: tableText}
	}
	var w rowPrinter = &csvPrinter{csv.NewWriter(out)}
	if asJSON {
		if w, err = newJSONPrinter(&plainText{w: t.env.Stdout, form: jsonText}); err != nil {
			return err
		}
	}
	if err := w.header(labels); err != nil {
		return err
	}
	for {
		b, err := reader.Next()
		if err == nil && ctx.Err() != nil {
			b.Release()
			err = context.Cause(ctx)
		}
		if err != nil {
			if closed := w.Close(); closed != nil {
				return closed
			}
			t.notes(reader.Notes(), quiet)
			if err == io.EOF {
				return nil
			}
			return err
		}
		err = w.WriteBatch(b)
		b.Release()
		if err != nil {
			return err
		}
	}
}

// rowPrinter prints a table.
type rowPrinter interface {
	header(labels []string) error
	format.Writer
}

type csvPrinter struct{ *csv.Writer }

func (p *csvPrinter) header(labels []string) error {
	if labels == nil {
		return nil
	}
	return p.WriteHeader(labels)
}

// jsonPrinter prints an array a row.
type jsonPrinter struct {
	w            io.Writer
	buf          []byte
	number, json *tableschema.Caster // write such values
}

func newJSONPrinter(w io.Writer) (*jsonPrinter, error) {
	schema, err := tableschema.Parse(map[string]any{"fields": []any{
		map[string]any{"name": "number", "type": "number"}, map[string]any{"name": "json", "type": "object"},
	}})
	if err != nil {
		return nil, err
	}
	p := &jsonPrinter{w: w}
	if p.number, err = schema.Caster(0, tableschema.CastOptions{}); err != nil {
		return nil, err
	}
	p.json, err = schema.Caster(1, tableschema.CastOptions{})
	return p, err
}

func (p *jsonPrinter) header(labels []string) error {
	if labels == nil {
		p.buf = append(p.buf, "null\n"...)
		return nil
	}
	p.buf = append(p.buf, '[')
	for i, label := range labels {
		if i > 0 {
			p.buf = append(p.buf, ',')
		}
		p.buf = tableschema.AppendJSONString(p.buf, []byte(label))
	}
	p.buf = append(p.buf, ']', '\n')
	return nil
}

// WriteBatch prints the rows of a batch.
func (p *jsonPrinter) WriteBatch(b *stream.Batch) error {
	const writeBytes = 64 << 10
	for r := range b.Rows() {
		p.buf = append(p.buf, '[')
		for c := range b.Width(r) {
			if c > 0 {
				p.buf = append(p.buf, ',')
			}
			switch cell := b.Cell(r, c); b.Kind(r, c) {
			case stream.Null:
				p.buf = append(p.buf, "null"...)
			case stream.Integer, stream.Number:
				p.buf = p.number.AppendJSON(p.buf, cell)
			case stream.Boolean:
				p.buf = append(p.buf, cell...)
			case stream.JSON:
				p.buf = p.json.AppendJSON(p.buf, cell)
			default:
				p.buf = tableschema.AppendJSONString(p.buf, cell)
			}
		}
		p.buf = append(p.buf, ']', '\n')
		if len(p.buf) >= writeBytes {
			if err := p.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close prints what is left.
func (p *jsonPrinter) Close() error {
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}
