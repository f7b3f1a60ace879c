package standard_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/processor/python"
	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/processor/wire"
	"github.com/datahq/specstore/internal/testkit"
)

// differ are the captured cases that do not hold, with the reason. Each must fail.
func differ() map[string]string {
	return map[string]string{}
}

// stepCase is a processor as datapackage-pipelines ran it.
type stepCase struct {
	Processor  string
	Parameters map[string]any
	In         map[string]any      `json:"datapackage_in"`
	Rows       [][]json.RawMessage `json:"data_in"`
	Out        any                 `json:"datapackage_out"`
	OutRows    [][]any             `json:"data_out"`
	Stats      any
	Files      map[string]string
	FilesOut   map[string]string `json:"files_out"`
	Env        map[string]string
	Error      bool
	Unordered  []string `json:"unordered_fields"`
}

// TestCases runs what datapackage-pipelines was seen to do, bytes in and bytes out.
func TestCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "cases", "dpp-steps"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("there are no cases", err)
	}
	known := differ()
	held := 0
	for _, file := range files {
		id := strings.TrimSuffix(filepath.Base(file), ".json")
		err := runCase(t, file)
		reason, listed := known[id]
		delete(known, id)
		switch {
		case err == nil && listed:
			t.Errorf("%s holds now, and is listed as differing (%s)", id, reason)
		case err == nil:
			held++
		case !listed:
			t.Errorf("%s: %v", id, err)
		default:
			t.Logf("%s differs: %s", id, reason)
		}
	}
	for id := range known {
		t.Errorf("%s is listed and is no case", id)
	}
	t.Logf("%d of %d cases hold", held, len(files))
}

func runCase(t *testing.T, file string) error {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	dir := t.TempDir()
	text = bytes.ReplaceAll(text, []byte("@CWD@"), []byte(filepath.ToSlash(dir)))
	var c stepCase
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&c); err != nil {
		return err
	}
	for name, body := range c.Files {
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return err
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
	}
	var in bytes.Buffer
	descriptor, err := json.Marshal(c.In)
	if err != nil {
		return err
	}
	fmt.Fprintf(&in, "{}\n%s\n", descriptor)
	for i := range standard.Streaming(c.In) {
		in.WriteByte('\n')
		for _, row := range c.Rows[i] {
			var line bytes.Buffer
			if err := json.Compact(&line, row); err != nil {
				return err
			}
			fmt.Fprintf(&in, "%s\n", &line)
		}
	}
	in.WriteString("\n{}\n\n")
	disk := testDisk{dir}
	env := &standard.Env{
		Sources: disk, Places: disk, Temp: t.TempDir(),
		Getenv: func(name string) string { return c.Env[name] },
	}
	out, err := runStep(t, env, c.Processor, c.Parameters, &in)
	if left, _ := os.ReadDir(env.Temp); len(left) > 0 {
		return fmt.Errorf("%s is left behind", left[0].Name())
	}
	if c.Error {
		if err == nil {
			return fmt.Errorf("it succeeds, and should not")
		}
		if k := errs.KindOf(err); k != errs.Invalid && k != errs.NotFound {
			return fmt.Errorf("its failure is %s: %w", k, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return compare(c, dir, out)
}

// runStep runs one processor over the wire.
func runStep(t *testing.T, env *standard.Env, run string, parameters map[string]any, in *bytes.Buffer) ([]byte, error) {
	t.Helper()
	step, err := standard.New(run, parameters)
	if err != nil {
		return nil, err
	}
	p, dependencies, err := wire.Read(in)
	if err != nil {
		return nil, err
	}
	env.Dependencies = dependencies
	if p, err = step.Process(t.Context(), env, p); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = wire.Write(t.Context(), &out, p, dependencies)
	return out.Bytes(), err
}

func compare(c stepCase, dir string, out []byte) error {
	lines := strings.Split(string(out), "\n")
	if n := len(lines); n < 5 || lines[0] != "{}" || lines[n-1] != "" || lines[n-2] != "" {
		return fmt.Errorf("the frame is wrong: %q", out)
	}
	if got := decode(lines[1]); !reflect.DeepEqual(got, plain(c.Out)) {
		return fmt.Errorf("descriptor\n%s\nwant\n%s", lines[1], show(c.Out))
	}
	var tables [][]string
	for _, line := range lines[2 : len(lines)-3] {
		if line == "" {
			tables = append(tables, []string{})
		} else {
			tables[len(tables)-1] = append(tables[len(tables)-1], line)
		}
	}
	tables = tables[:len(tables)-1] // the last blank line stands before the statistics
	want := c.OutRows
	for len(want) > len(tables) && len(want[len(want)-1]) == 0 {
		want = want[:len(want)-1] // a capture of no tables
	}
	if len(tables) != len(want) {
		return fmt.Errorf("%d tables, want %d", len(tables), len(want))
	}
	for i, rows := range tables {
		if len(rows) != len(want[i]) {
			return fmt.Errorf("table %d: %d rows, want %d", i, len(rows), len(want[i]))
		}
		for r, row := range rows {
			if !reflect.DeepEqual(unordered(decode(row), c.Unordered), unordered(plain(want[i][r]), c.Unordered)) {
				return fmt.Errorf("table %d, row %d\n%s\nwant\n%s", i, r+1, row, show(want[i][r]))
			}
		}
	}
	if stats := lines[len(lines)-3]; !reflect.DeepEqual(decode(stats), plain(c.Stats)) {
		return fmt.Errorf("statistics\n%s\nwant\n%s", stats, show(c.Stats))
	}
	for _, name := range slices.Sorted(maps.Keys(c.FilesOut)) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if string(b) != c.FilesOut[name] {
			return fmt.Errorf("file %s\n%s\nwant\n%s", name, b, c.FilesOut[name])
		}
	}
	return nil
}

// decode and plain give values in which numbers are the text that Python prints.
func decode(text string) any {
	v, err := python.ParseJSON([]byte(text))
	if err != nil {
		return err
	}
	return plain(v)
}

func plain(v any) any {
	out, err := python.ParseJSON(python.JSON{}.Append(nil, v))
	if err != nil {
		return err
	}
	return out
}

func show(v any) string { return string(python.JSON{ASCII: true}.Append(nil, v)) }

// unordered sorts the lists of fields whose order means nothing.
func unordered(row any, names []string) any {
	m, _ := row.(map[string]any)
	for _, name := range names {
		if list, ok := m[name].([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(show(a), show(b)) })
		}
	}
	return row
}
