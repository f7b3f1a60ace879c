// Package layers keeps the direction of imports: a package imports packages of lower
// layers only, and what is costly or outside belongs to one place each.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/datahq/specstore/"

// layers are listed from the lowest. Packages of one layer do not meet.
var layers = [][]string{
	{"internal/pattern"},
	{"internal/errs", "internal/jsonschema", "internal/private", "internal/stream", "internal/weburl"},
	{"internal/tableschema", "internal/sqldb", "internal/objstore", "internal/fetch", "internal/jsondiff"},
	{"internal/datapackage", "internal/auth", "internal/spill"},
	{"internal/flowspec", "internal/format"},
	{"internal/format/csv", "internal/format/jsonrows", "internal/format/parquet", "internal/format/sqlite", "internal/format/xlsx"},
	{"internal/format/tables"},
	{"internal/plan"},
	{"internal/processor", "internal/processor/python"},
	{"internal/processor/standard"},
	{"internal/processor/wire", "internal/pipelinespec"},
	{"internal/registry", "internal/rawstore", "internal/engine"},
	{"internal/pkgstore"},
	{"internal/jobs", "internal/dpp", "internal/runner"},
	{"internal/service"},
	{"internal/httpapi", "client"},
	{"internal/local"},
	{"internal/cli"},
	{"cmd/specstore"},
}

// only says which packages may import what, by prefix of the import path.
var only = map[string][]string{
	"github.com/riverqueue/":  {"internal/jobs"},
	"modernc.org/sqlite":      {"internal/sqldb", "internal/format/sqlite"},
	"github.com/jackc/pgx":    {"internal/sqldb", "internal/jobs"},
	"github.com/spf13/cobra":  {"internal/cli"},
	"github.com/parquet-go/":  {"internal/format/parquet"},
	"net/http":                {"internal/dpp", "internal/httpapi", "internal/auth", "internal/fetch", "internal/cli", "client"},
	"database/sql":            {"internal/sqldb", "internal/jobs", "internal/registry", "internal/format/sqlite"},
	"github.com/golang-jwt/":  {"internal/auth"},
	"github.com/santhosh-tek": {"internal/jsonschema"},
	"github.com/cockroachdb/": {"internal/processor/python"},
}

// pure are the packages that open nothing.
var pure = []string{"internal/pattern", "internal/errs", "internal/weburl", "internal/jsonschema", "internal/jsondiff", "internal/tableschema", "internal/stream", "internal/datapackage", "internal/flowspec", "internal/plan", "internal/processor", "internal/processor/python", "internal/processor/wire"}

type goPackage struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func TestLayers(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	level := map[string]int{}
	for i, layer := range layers {
		for _, name := range layer {
			level[name] = i
		}
	}
	tests := []string{"internal/testkit", "internal/layers", "internal/format/formattest", "internal/objstore/objstoretest", "internal/service/servicetest"}
	d := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if p.Doc == "" && name != "internal/layers" {
			t.Errorf("%s has no package doc", name)
		}
		if slices.Contains(tests, name) || strings.HasPrefix(name, "bench/") { // programs that measure
			continue
		}
		at, ok := level[name]
		if !ok {
			t.Errorf("%s has no layer: add it to the table", name)
			continue
		}
		for _, path := range p.Imports {
			if own, ok := strings.CutPrefix(path, module); ok {
				if slices.Contains(tests, own) {
					t.Errorf("%s imports %s, which is for tests", name, own)
				} else if level[own] >= at {
					t.Errorf("%s imports %s, which is not below it", name, own)
				}
				if name == "client" {
					t.Errorf("client imports %s: it is public and stands alone", own)
				}
			}
			for prefix, allowed := range only {
				if strings.HasPrefix(path, prefix) && !slices.Contains(allowed, name) {
					t.Errorf("%s imports %s; only %s may", name, path, strings.Join(allowed, ", "))
				}
			}
			if slices.Contains(pure, name) && (path == "os" || path == "net" || path == "os/exec") {
				t.Errorf("%s imports %s, and opens nothing", name, path)
			}
		}
	}
}
