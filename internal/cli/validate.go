package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/tables"
	"github.com/spf13/cobra"
)

func validateCommand(env *Env) *cobra.Command {
	var schema string
	var asJSON, asCSV, quiet bool
	cmd := &cobra.Command{
		Use:   "validate PATH",
		Short: "Check data against its description, by the published standard",
		Long: `Check data against its description, by the published standard.

PATH is a folder with a datapackage.json, that file itself, or a data file, whose
schema --schema may give. Every row of every table is read, also of tables without a
schema. Rows are counted as they stand in the file, the header being row 1.

Exit codes: 0 valid, 1 not valid, 2 wrong usage or description.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := env.path(args[0])
			descriptor, base, err := described(env, path, schema)
			if err != nil {
				return exit(exitUsage, err)
			}
			result, err := validate(cmd.Context(), env, descriptor, base, path)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				err = writeJSON(env.Stdout, result)
			case asCSV:
				err = result.list(&plainText{w: env.Stdout, form: tableText})
			default:
				err = result.print(env.text, quiet)
			}
			if err != nil {
				return err
			}
			if !result.Valid {
				return exit(exitData, nil)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&schema, "schema", "", "Table Schema `file` of a data file")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	f.BoolVar(&asCSV, "csv", false, "print what is wrong as CSV, a row an error; control characters as escapes")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	f.BoolVarP(&quiet, "quiet", "q", false, "print what is wrong only")
	return cmd
}

// described gives the descriptor of what lies at path and the folder that its
// paths are relative to.
func described(env *Env, path, schema string) (descriptor map[string]any, base string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", pathError(err)
	}
	switch {
	case info.IsDir():
		descriptor, err = readPackage(path)
		return descriptor, path, err
	case filepath.Base(path) == "datapackage.json" && schema == "":
		descriptor, err = readPackage(filepath.Dir(path))
		return descriptor, filepath.Dir(path), err
	}
	file := filepath.Base(path)
	resource := map[string]any{"name": strings.TrimSuffix(file, filepath.Ext(file)), "path": file, "type": "table"}
	if schema != "" {
		b, err := readSmall(env.path(schema))
		if err != nil {
			return nil, "", err
		}
		if resource["schema"], err = decodeObject(schema, b); err != nil {
			return nil, "", err
		}
	}
	return map[string]any{"$schema": datapackage.Profile2, "resources": []any{resource}}, filepath.Dir(path), nil
}

// validation is what `validate --json` prints.
type validation struct {
	Valid     bool                  `json:"valid"`
	Resources []*resourceValidation `json:"resources"`
}

type resourceValidation struct {
	Name       string           `json:"name"`
	Valid      bool             `json:"valid"`
	Rows       int64            `json:"rows"`
	ErrorCount int64            `json:"error_count"`
	Counts     map[string]int64 `json:"error_counts,omitempty"`
	Errors     []engine.Problem `json:"errors"`
	Notes      []string         `json:"notes,omitempty"`

	maybe  bool   // it need not be a table
	opened bool   // its file is there
	file   string // that it has, where it is one
}

// input is how the files of a resource are read.
func (one *resourceValidation) input(sources *localSources, res map[string]any) (engine.TableInput, error) {
	paths := datapackage.Paths(res)
	in := engine.TableInput{Resource: res, Parts: len(paths)}
	if len(paths) > 0 {
		in.Format = datapackage.Extension(paths[0])
		if len(paths) == 1 {
			one.file = paths[0]
		}
		in.Open = func(ctx context.Context, part int) (io.ReadCloser, error) {
			body, _, err := sources.Open(ctx, localPath(sources.base, paths[part]))
			one.opened = one.opened || err == nil
			return body, err
		}
		return in, nil
	}
	text, inline, problem := datapackage.Inline(res)
	if problem != nil {
		return in, errs.New(errs.Invalid, "cli.validate", "resource %q: %s", one.Name, problem)
	}
	in.Format, one.opened = inline, true
	in.Open = func(context.Context, int) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	return in, nil
}

// named puts the file's name before a message that does not have it.
func (one *resourceValidation) named(message string) string {
	if one.file == "" || strings.Contains(message, one.file) {
		return message
	}
	return one.file + ": " + message
}

// look notes the files of a resource that is no table which cannot be opened.
func (one *resourceValidation) look(ctx context.Context, in engine.TableInput) {
	one.Notes = []string{"no table: only looked for"}
	for part := range max(in.Parts, 1) {
		body, err := in.Open(ctx, part)
		if err != nil {
			one.ErrorCount++
			one.Errors = append(one.Errors, engine.Problem{Code: "source-error", Message: errs.Detail(err)})
		} else {
			body.Close()
		}
	}
}

// validate checks what a descriptor names in the folder base; named is what the user
// named.
func validate(ctx context.Context, env *Env, descriptor map[string]any, base, named string) (*validation, error) {
	fetcher, err := newFetch(env)
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	if problems := datapackage.Check(descriptor); len(problems) > 0 {
		text := make([]string, len(problems))
		for i, p := range problems {
			text[i] = p.Pointer + ": " + p.Message
		}
		return nil, exit(exitUsage, errs.New(errs.Invalid, "cli.validate", "the descriptor is not valid:\n  %s", strings.Join(text, "\n  ")))
	}
	temp, err := os.MkdirTemp("", "specstore-validate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	sources := &localSources{base: base, inside: true, named: named, fetch: fetcher}
	result := &validation{Valid: true, Resources: []*resourceValidation{}}
	var inputs []engine.TableInput
	var read []*resourceValidation
	list, _ := descriptor["resources"].([]any)
	for _, v := range list {
		res, _ := v.(map[string]any)
		res, _ = datapackage.Resolve(descriptor, res) // what cannot be was found by Check
		one := &resourceValidation{Errors: []engine.Problem{}}
		one.Name, _ = res["name"].(string)
		result.Resources = append(result.Resources, one)
		in, err := one.input(sources, res)
		if err != nil {
			return nil, exit(exitUsage, err)
		}
		dialect, _ := res["dialect"].(map[string]any)
		if unknown := format.UnknownKeys(dialect); len(unknown) > 0 {
			return nil, exit(exitUsage, errs.New(errs.Invalid, "cli.validate", "resource %q: there is no key %q of a dialect", one.Name, unknown[0]))
		}
		kind := tables.KindOf(res, in.Format)
		if res["schema"] == nil && kind == tables.Other {
			one.look(ctx, in)
			continue
		}
		one.maybe = res["schema"] == nil && kind == tables.MaybeTable
		read = append(read, one)
		inputs = append(inputs, in)
	}
	reports, err := engine.Validate(ctx, temp, inputs)
	if err != nil {
		return nil, err
	}
	for i, report := range reports {
		t := read[i]
		if p := report.Problems; t.maybe && t.opened && report.Rows == 0 && p.Total == 1 && (p.First[0].Code == format.CodeSource || p.First[0].Code == format.CodeFormat) {
			t.Notes = []string{"read as no table: " + p.First[0].Message}
			continue
		}
		for i, p := range report.Problems.First {
			switch p.Code { // of the file, not of a cell
			case format.CodeSource, format.CodeFormat, format.CodeEncoding, tables.CodeDialect:
				report.Problems.First[i].Message = t.named(p.Message)
			}
		}
		t.Rows, t.ErrorCount, t.Counts, t.Notes = report.Rows, report.Problems.Total, report.Problems.Counts, report.Problems.Notes
		t.Errors = append(t.Errors, report.Problems.First...)
	}
	for _, one := range result.Resources {
		one.Valid = one.ErrorCount == 0
		result.Valid = result.Valid && one.Valid
	}
	return result, nil
}

// list writes what is wrong as CSV.
func (v *validation) list(w io.Writer) error {
	list, err := engine.NewErrorList(w)
	if err != nil {
		return err
	}
	for _, r := range v.Resources {
		for _, p := range r.Errors {
			if err := list.Add(r.Name, p); err != nil {
				return err
			}
		}
		for _, note := range r.Notes {
			if err := list.Note(r.Name, note); err != nil {
				return err
			}
		}
		if listed := int64(len(r.Errors)); r.ErrorCount > listed {
			if err := list.Note(r.Name, fmt.Sprintf("only the first %d of %d errors are listed", listed, r.ErrorCount)); err != nil {
				return err
			}
		}
	}
	return list.Flush()
}

func (v *validation) print(w io.Writer, quiet bool) error {
	for _, r := range v.Resources {
		if r.Valid && quiet {
			continue
		}
		verdict := "valid"
		if !r.Valid {
			verdict = fmt.Sprintf("%d errors", r.ErrorCount)
			if r.ErrorCount == 1 {
				verdict = "1 error"
			}
		}
		if _, err := fmt.Fprintf(w, "%s: %s, %d rows\n", r.Name, verdict, r.Rows); err != nil {
			return err
		}
		for _, e := range r.Errors {
			where := ""
			if e.Row > 0 {
				where = fmt.Sprintf("row %d: ", e.Row)
			}
			fmt.Fprintf(w, "  %s%s (%s)\n", where, e.Message, e.Code)
		}
		if more := r.ErrorCount - int64(len(r.Errors)); more > 0 {
			fmt.Fprintf(w, "  and %d more\n", more)
		}
		for _, n := range r.Notes {
			fmt.Fprintf(w, "  note: %s\n", n)
		}
	}
	return nil
}
