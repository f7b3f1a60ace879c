//go:build unix

package cli_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/testkit"
)

// faultExceptions are the captured faults that do not hold, and why. One that holds
// must leave the table.
var faultExceptions = map[string]string{}

// faultCase is a captured fault: commands, and what must come of each.
type faultCase struct {
	Setup []struct{ Symlink, To, Fifo string }
	Serve bool
	Steps []faultStep
}

type faultStep struct {
	Args    []string
	Exit    any // a code or a list of codes; nil is 0
	Checks  []map[string]any
	Write   map[string]string
	Stdin   string
	Seconds int
}

// TestFaultCases runs the commands of every captured data fault and holds what they
// print, write and answer against the case.
func TestFaultCases(t *testing.T) {
	t.Parallel()
	dir := testkit.Shared(t, "cases", "faults")
	found, err := filepath.Glob(filepath.Join(dir, "*", "case.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no cases in %s (%v)", dir, err)
	}
	held := 0
	for _, file := range found {
		folder := filepath.Dir(file)
		id := filepath.Base(folder)
		failed := runFaultCase(t, folder)
		reason, known := faultExceptions[id]
		switch {
		case known && len(failed) == 0:
			t.Errorf("%s holds, and is no exception (%s)", id, reason)
		case !known && len(failed) > 0:
			t.Errorf("%s: %s", id, strings.Join(failed, "\n  "))
		case !known:
			held++
		}
	}
	for id := range faultExceptions {
		if !slices.Contains(found, filepath.Join(dir, id, "case.json")) {
			t.Errorf("there is no case %s", id)
		}
	}
	t.Logf("%d of %d cases hold; %d exceptions", held, len(found), len(faultExceptions))
}

// faultRun is a case at work in a copy of its folder.
type faultRun struct {
	work     string
	names    *strings.Replacer // of $OUT, $WORK and $DATA
	env      []string
	out, err string // of the step that ran last
}

// runFaultCase returns the checks of a case that do not hold.
func runFaultCase(t *testing.T, folder string) (failed []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c faultCase
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	top := t.TempDir()
	work, out, data, temp := filepath.Join(top, "work"), filepath.Join(top, "out"), filepath.Join(top, "data"), filepath.Join(top, "tmp")
	if err := errors.Join(os.CopyFS(work, os.DirFS(folder)), os.Remove(filepath.Join(work, "case.json")), os.Mkdir(temp, 0o755)); err != nil {
		t.Fatal(err)
	}
	r := &faultRun{
		work: work, names: strings.NewReplacer("$OUT", out, "$DATA", data, "$WORK", work),
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + top, "TMPDIR=" + temp, "LANG=C.UTF-8"},
	}
	for _, s := range c.Setup {
		if s.Symlink != "" {
			path := filepath.Join(work, s.Symlink)
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(r.names.Replace(s.To), path))
		} else {
			err = syscall.Mkfifo(filepath.Join(work, s.Fifo), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.Serve {
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		defer startServer(t, data).kill()
	}
	for i, step := range c.Steps {
		for _, f := range r.step(t, step) {
			failed = append(failed, fmt.Sprintf("step %d, %s: %s", i, strings.Join(step.Args, " "), f))
		}
	}
	return failed
}

var crashed = regexp.MustCompile(`(?m)^panic:|^goroutine \d+ \[|runtime error:|SIGSEGV`)

func (r *faultRun) step(t *testing.T, step faultStep) (failed []string) {
	t.Helper()
	for name, body := range step.Write {
		if err := os.WriteFile(filepath.Join(r.work, name), []byte(r.names.Replace(body)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := make([]string, len(step.Args))
	for i, a := range step.Args {
		args[i] = r.names.Replace(a)
	}
	const usualSeconds = 20
	seconds := usualSeconds
	if step.Seconds > 0 {
		seconds = step.Seconds
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "specstore", args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = r.work, r.env, strings.NewReader(step.Stdin), &stdout, &stderr
	if err := cmd.Run(); ctx.Err() != nil {
		return []string{fmt.Sprintf("did not end in %d s", seconds)}
	} else if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	r.out, r.err = stdout.String(), stderr.String()
	if crashed.MatchString(r.err) {
		failed = append(failed, "crashed: "+r.err)
	}
	codes, ok := step.Exit.([]any)
	if !ok {
		codes = []any{step.Exit}
		if step.Exit == nil {
			codes[0] = 0.0
		}
	}
	if !slices.Contains(codes, any(float64(cmd.ProcessState.ExitCode()))) {
		failed = append(failed, fmt.Sprintf("exit %d, want %v: %.300s", cmd.ProcessState.ExitCode(), codes, r.err+r.out))
	}
	for _, check := range step.Checks {
		if wrong := r.check(check); wrong != "" {
			b, _ := json.Marshal(check)
			failed = append(failed, fmt.Sprintf("%.200s: %s", b, wrong))
		}
	}
	return failed
}

// check says what keeps a check from holding; empty where it holds.
func (r *faultRun) check(check map[string]any) string {
	if not, ok := check["not"].(map[string]any); ok {
		if r.check(not) == "" {
			return "it does"
		}
		return ""
	}
	if list, ok := check["any"].([]any); ok {
		var wrong []string
		for _, one := range list {
			w := r.check(one.(map[string]any))
			if w == "" {
				return ""
			}
			wrong = append(wrong, w)
		}
		return strings.Join(wrong, "; ")
	}
	if name, ok := check["file"].(string); ok {
		return r.checkFile(name, check)
	}
	if _, ok := check["json"]; ok {
		return checkJSON(r.out, check)
	}
	if want, ok := check["stdout_csv"]; ok {
		return sameRows(r.out, want)
	}
	if want, ok := check["stdout_lines"]; ok {
		lines := []any{}
		for line := range strings.Lines(r.out) {
			if strings.TrimSpace(line) == "" {
				continue
			}
			var v any
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				return fmt.Sprintf("a line is no JSON: %.200s", line)
			}
			lines = append(lines, v)
		}
		return sameJSON(lines, want)
	}
	for key, text := range map[string]string{"stdout_matches": r.out, "stderr_matches": r.err} {
		if pattern, ok := check[key].(string); ok {
			return matches(text, pattern)
		}
	}
	return "there is no such check"
}

func (r *faultRun) checkFile(name string, check map[string]any) string {
	path := r.names.Replace(name)
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.work, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "there is no such file"
	}
	if want, ok := check["rows"]; ok {
		return queryRows(path, check["query"].(string), want)
	}
	if want, ok := check["csv"]; ok {
		if wrong := sameRows(string(b), want); wrong != "" {
			return wrong
		}
	}
	if want, ok := check["json_equals"]; ok {
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Sprintf("the file is no JSON: %.200s", b)
		}
		if wrong := sameJSON(v, want); wrong != "" {
			return wrong
		}
	}
	if _, ok := check["json"]; ok {
		return checkJSON(string(b), check)
	}
	if pattern, ok := check["matches"].(string); ok {
		return matches(string(b), pattern)
	}
	return ""
}

// checkJSON holds the value at a pointer against the tests of a check.
func checkJSON(text string, check map[string]any) string {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return fmt.Sprintf("it is no JSON: %.200s", text)
	}
	v, ok := valueAt(v, check["json"].(string))
	if !ok {
		return fmt.Sprintf("there is no %s in %.300s", check["json"], text)
	}
	shown := fmt.Sprintf("is %.300s", jsonText(v))
	if want, ok := check["equals"]; ok && !reflect.DeepEqual(v, want) {
		return shown
	}
	if part, ok := check["contains"]; ok {
		elements, list := v.([]any)
		if !list {
			elements = []any{v}
		}
		if !slices.ContainsFunc(elements, func(e any) bool { return hasMembers(e, part) }) {
			return shown
		}
	}
	if pattern, ok := check["matches"].(string); ok {
		s, isText := v.(string)
		if !isText {
			s = jsonText(v)
		}
		if wrong := matches(s, pattern); wrong != "" {
			return wrong
		}
	}
	if want, ok := check["length"]; ok {
		length := reflect.ValueOf(v).Len()
		if float64(length) != want {
			return fmt.Sprintf("has %d: %s", length, shown)
		}
	}
	return ""
}

// valueAt is the value at a JSON pointer.
func valueAt(v any, pointer string) (any, bool) {
	for i, part := range strings.Split(pointer, "/") {
		if i == 0 {
			continue
		}
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[part]; !ok {
				return nil, false
			}
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(in) {
				return nil, false
			}
			v = in[n]
		default:
			return nil, false
		}
	}
	return v, true
}

func hasMembers(v, part any) bool {
	want, object := part.(map[string]any)
	if !object {
		return reflect.DeepEqual(v, part)
	}
	got, ok := v.(map[string]any)
	for key, value := range want {
		member, there := got[key]
		ok = ok && there && reflect.DeepEqual(member, value)
	}
	return ok
}

func sameRows(text string, want any) string {
	records := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\uFEFF")))
	records.FieldsPerRecord = -1
	rows := []any{}
	for {
		record, err := records.Read()
		if err == io.EOF {
			return sameJSON(rows, want)
		}
		if err != nil {
			return fmt.Sprintf("it is no CSV (%v): %.200s", err, text)
		}
		row := make([]any, len(record))
		for i, cell := range record {
			row[i] = cell
		}
		rows = append(rows, row)
	}
}

func sameJSON(got, want any) string {
	if reflect.DeepEqual(got, want) {
		return ""
	}
	return fmt.Sprintf("is %.300s", jsonText(got))
}

func jsonText(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

func matches(text, pattern string) string {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err.Error()
	}
	if !re.MatchString(text) {
		return fmt.Sprintf("is %.300s", text)
	}
	return ""
}

// queryRows holds what a SQLite database answers against rows.
func queryRows(path, query string, want any) string {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	found, err := db.Query(query)
	if err != nil {
		return err.Error()
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return err.Error()
	}
	rows := []any{}
	for found.Next() {
		row, at := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			at[i] = &row[i]
		}
		if err := found.Scan(at...); err != nil {
			return err.Error()
		}
		for i, v := range row {
			if n, ok := v.(int64); ok {
				row[i] = float64(n)
			}
		}
		rows = append(rows, row)
	}
	if err := found.Err(); err != nil {
		return err.Error()
	}
	return sameJSON(rows, want)
}
