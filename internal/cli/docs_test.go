package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/cli"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/testkit"
)

var (
	docTables   = regexp.MustCompile(`(?s)<!-- table (\S+) -->\n.*?<!-- end -->\n`)
	docExamples = regexp.MustCompile("(?s)```yaml (example|refused)\n(.*?)```\n.*?```(pipelines|problems)\n(.*?)```")
)

// TestFlowSpecPage: the tables of the page about Flow-Specs are those of the schema
// (-update writes them), and its examples lead to what stands below them.
func TestFlowSpecPage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(testkit.Root(t), "docs", "flow-spec.md")
	page := testkit.Must(os.ReadFile(file))(t)
	var schema map[string]any
	if err := json.Unmarshal(flowspec.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	tables := docTables.ReplaceAllFunc(page, func(old []byte) []byte {
		pointer := string(docTables.FindSubmatch(old)[1])
		return fmt.Appendf(nil, "<!-- table %s -->\n%s<!-- end -->\n", pointer, docTable(t, schema, pointer))
	})
	testkit.Golden(t, file, tables)

	examples := docExamples.FindAllSubmatch(page, -1)
	if len(examples) != bytes.Count(page, []byte("```yaml ")) {
		t.Errorf("%d examples, and not all of them say what they lead to", len(examples))
	}
	for i, e := range examples {
		kind, spec, want := string(e[1]), e[2], string(e[4])
		path := filepath.Join(t.TempDir(), "flow.yaml")
		if err := os.WriteFile(path, spec, 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		code := cli.Run(t.Context(), cli.Env{
			Args:   []string{"plan", path, "--allowed-types", "embedded"},
			Getenv: func(string) string { return "" }, Now: time.Now, Dir: filepath.Dir(path),
			Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		})
		got := ""
		if kind == "example" {
			for line := range strings.Lines(stdout.String()) {
				if id, _, ok := strings.Cut(line, "  ("); ok {
					got += id + "\n"
				}
			}
		} else {
			for line := range strings.Lines(stderr.String()) {
				if strings.HasPrefix(line, "  /") {
					got += strings.TrimPrefix(line, "  ")
				}
			}
		}
		if wantCode := map[string]int{"example": 0, "refused": 2}[kind]; code != wantCode || got != want {
			t.Errorf("example %d: exit code %d and\n%s%s\nwant\n%s", i+1, code, got, stderr.String(), want)
		}
	}
}

// docTable is the table of the properties of a subschema.
func docTable(t *testing.T, schema map[string]any, pointer string) string {
	t.Helper()
	at := docLookup(t, schema, pointer)
	required, _ := at["required"].([]any)
	if pointer == "/" {
		required = append(required, "inputs")
	}
	properties, _ := at["properties"].(map[string]any)
	// Those that are required come first.
	names := slices.SortedFunc(maps.Keys(properties), func(a, b string) int {
		if slices.Contains(required, any(a)) != slices.Contains(required, any(b)) {
			if slices.Contains(required, any(a)) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	out := "| field | type | meaning | example |\n|---|---|---|---|\n"
	for _, name := range names {
		p, _ := properties[name].(map[string]any)
		if ref, ok := p["$ref"].(string); ok {
			p = maps.Clone(p)
			for k, v := range docLookup(t, schema, strings.TrimPrefix(ref, "#")) {
				if _, ok := p[k]; !ok {
					p[k] = v
				}
			}
		}
		if _, sealed := p["not"]; sealed {
			continue
		}
		meaning, _ := p["description"].(string)
		if v, ok := p["default"]; ok {
			meaning += fmt.Sprintf(" Default: `%v`.", v)
		}
		if slices.Contains(required, any(name)) {
			meaning = "**Required.** " + meaning
		}
		out += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, docType(p), meaning, docExample(p))
	}
	return out
}

func docLookup(t *testing.T, schema map[string]any, pointer string) map[string]any {
	t.Helper()
	at := schema
	for part := range strings.SplitSeq(strings.Trim(pointer, "/"), "/") {
		if part == "" {
			continue
		}
		next, ok := at[part].(map[string]any)
		if !ok {
			t.Fatalf("the schema has no %s", pointer)
		}
		at = next
	}
	return at
}

func docType(p map[string]any) string {
	if list, ok := p["enum"].([]any); ok && len(list) <= 3 {
		var words []string
		for _, v := range list {
			words = append(words, fmt.Sprintf("`%v`", v))
		}
		return strings.Join(words, ", ")
	}
	if _, ok := p["enum"]; ok || p["const"] != nil {
		return "text"
	}
	var types []any
	switch v := p["type"].(type) {
	case string:
		types = []any{v}
	case []any:
		types = v
	default:
		return "any"
	}
	var words []string
	for _, v := range types {
		word, ok := map[any]string{"string": "text", "array": "list", "object": "object"}[v]
		if ok {
			words = append(words, word)
		}
	}
	return strings.Join(words, " or ")
}

func docExample(p map[string]any) string {
	list, _ := p["examples"].([]any)
	var out []string
	for _, v := range list {
		b, err := json.Marshal(v)
		if err != nil {
			continue
		}
		out = append(out, "`"+string(b)+"`")
	}
	return strings.Join(out, ", ")
}
