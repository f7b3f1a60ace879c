package cli_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/testkit"
)

// notRun are the command lines of documents that are not run here, and why. One that no
// document shows must leave the table.
var notRun = map[string]string{
	"specstore serve":  "TestDocumentedCommands runs it, beside the others",
	"specstore worker": "needs PostgreSQL; TestKilledWorker runs it",
}

var (
	codeLine = regexp.MustCompile(`(?m)^    ((?:specstore|make) [^\n]*)$`)
	inlined  = regexp.MustCompile("`((?:make|bin/)[^`\n]*)`")
	variable = regexp.MustCompile(`\b(?:SPECSTORE|PKGSTORE|PLANNER)_[A-Z_]*[A-Z]\b|\bDPP_URL\b|\bAUTH_SERVER\b`)
)

// documents are the pages that show commands.
func documents(t *testing.T) map[string]string {
	t.Helper()
	root := testkit.Root(t)
	pages := map[string]string{}
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", "docs/*.md"} {
		for _, file := range testkit.Must(filepath.Glob(filepath.Join(root, pattern)))(t) {
			pages[filepath.Base(file)] = string(testkit.Must(os.ReadFile(file))(t))
		}
	}
	return pages
}

// command takes the remark off a line.
func command(line string) string {
	line, _, _ = strings.Cut(line, " # ")
	return strings.TrimSpace(line)
}

// TestDocumentedCommands runs the command lines that documents show in blocks of code, in
// a folder with the examples and what else they name, beside a server.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS(filepath.Join(testkit.Root(t), "examples"))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"data.csv": "a,b\n1,2\n", "sort.json": `{"resources":"t","sort-by":"{a}"}`,
		"pipeline-spec.yaml": "p:\n  pipeline:\n  - run: load\n    parameters: {from: data.csv, name: t}\n  - run: dump_to_path\n    parameters: {out-path: out}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(line, stdin string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", line)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := run("gzip -c > data.json.gz", `[{"a":1}]`); code != 0 {
		t.Skip("there is no gzip: ", out)
	}
	startServer(t, filepath.Join(dir, ".specstore"))
	want := map[string]int{"specstore validate examples/bad-rows": 1} // its rows are bad
	shown := map[string]bool{}
	pages := documents(t)
	for _, name := range []string{"README.md", "dpp.md", "flow-spec.md", "limits.md", "performance.md", "security.md", "CONTRIBUTING.md"} {
		for _, m := range codeLine.FindAllStringSubmatch(pages[name], -1) {
			line := command(m[1])
			if !strings.HasPrefix(line, "specstore ") || shown[line] {
				continue
			}
			shown[line] = true
			if notRun[line] != "" {
				continue
			}
			line = strings.ReplaceAll(line, "/tmp/out", filepath.Join(dir, "out"))
			stdin := ""
			if strings.HasPrefix(line, "specstore step ") {
				stdin = "{}\n{\"name\":\"p\",\"resources\":[]}\n\n{}\n"
			}
			if line == "specstore migrate" { // the server has the database of the folder
				line = "DATABASE_URL=sqlite:///other.db " + line
			}
			if code, out := run(line, stdin); code != want[command(m[1])] {
				t.Errorf("%s: %s: exit code %d\n%s", name, line, code, out)
			}
		}
	}
	if len(shown) < 10 {
		t.Errorf("%d command lines were found", len(shown))
	}
	for line := range notRun {
		if !shown[line] {
			t.Errorf("no document shows %q", line)
		}
	}
}

// TestDocumentedTargets: every target of make and every program of bin that documents name
// is there, with its flags.
func TestDocumentedTargets(t *testing.T) {
	t.Parallel()
	root := testkit.Root(t)
	makefile := string(testkit.Must(os.ReadFile(filepath.Join(root, "Makefile")))(t))
	for name, page := range documents(t) {
		var lines []string
		for _, m := range slices.Concat(codeLine.FindAllStringSubmatch(page, -1), inlined.FindAllStringSubmatch(page, -1)) {
			lines = append(lines, command(m[1]))
		}
		for _, line := range lines {
			words := strings.Fields(line)
			switch {
			case words[0] == "make" && len(words) > 1:
				if !strings.Contains(makefile, "\n"+words[1]+":") {
					t.Errorf("%s: the Makefile has no %s", name, words[1])
				}
			case strings.HasPrefix(words[0], "bin/") && words[0] != "bin/specstore":
				files := testkit.Must(filepath.Glob(filepath.Join(root, "bench", strings.TrimPrefix(words[0], "bin/"), "*.go")))(t)
				source := ""
				for _, file := range files {
					source += string(testkit.Must(os.ReadFile(file))(t))
				}
				if source == "" {
					t.Errorf("%s: there is no program %s", name, words[0])
				}
				for _, word := range words[1:] {
					if flag, ok := strings.CutPrefix(word, "-"); ok && !strings.Contains(source, `"`+strings.Split(flag, "=")[0]+`"`) {
						t.Errorf("%s: %s has no flag %s", name, words[0], word)
					}
				}
			}
		}
	}
}

// TestDocumentedVariables: what documents and help texts name is read by the program, and
// what it reads is documented.
func TestDocumentedVariables(t *testing.T) {
	t.Parallel()
	root := testkit.Root(t)
	read := map[string]bool{}
	for _, file := range testkit.Must(filepath.Glob(filepath.Join(root, "internal", "cli", "*.go")))(t) {
		text := string(testkit.Must(os.ReadFile(file))(t))
		for _, m := range regexp.MustCompile(`"([A-Z][A-Z_]+)"`).FindAllStringSubmatch(text, -1) {
			if variable.MatchString(m[1]) {
				read[m[1]] = true
			}
		}
	}
	planned := map[string]bool{} // refused when they are set: TestNotYet
	for _, name := range []string{
		"SPECSTORE_RAWSTORE_URL", "SPECSTORE_PKGSTORE_URL", "SPECSTORE_CDN_URL", "SPECSTORE_METRICS_ADDR", "SPECSTORE_MAX_OWNER_BYTES", "SPECSTORE_KEEP_REVISIONS",
	} {
		planned[name] = true
	}
	elsewhere := map[string]string{
		"SPECSTORE_PROGRAM": "read by the Python package", "SPECSTORE_TEST_DPP": "read by a test",
		"SPECSTORE_TEST_LONG": "read by a test", "SPECSTORE_TEST_NO_DPP": "read by a test", "SPECSTORE_TEST_BUCKET": "read by a test",
	}
	named := map[string]bool{}
	for page, text := range documents(t) {
		for _, name := range variable.FindAllString(text, -1) {
			named[name] = true
			if elsewhere[name] == "" && (!read[name] || planned[name]) {
				t.Errorf("%s names %s, which nothing reads", page, name)
			}
		}
	}
	for name := range read {
		if !named[name] && !planned[name] && elsewhere[name] == "" {
			t.Errorf("no document names %s", name)
		}
	}
}
