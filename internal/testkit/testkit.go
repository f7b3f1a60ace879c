// Package testkit holds what the tests of several packages share: the places of
// the captured cases and of the module, and what saves lines. It is imported by tests only.
package testkit

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root is the module's folder: the nearest one upwards that holds go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("testkit: no go.mod above the working folder")
		}
		dir = parent
	}
}

// Shared is a folder of the captured material beside the module, such as
// Shared(t, "cases", "plan"). Where it is missing the test is skipped, and in CI
// it fails.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	dir := filepath.Join(append([]string{filepath.Dir(Root(t)), "shared"}, elem...)...)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("testkit: %s is missing", dir)
		}
		t.Skipf("%s is missing: captured cases are not run", dir)
	}
	return dir
}

// Must gives what a call gave, and ends the test where that failed:
// Must(os.Open(name))(t).
func Must[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var update = flag.Bool("update", false, "rewrite golden files")

// Golden holds what was made against a file of the package's testdata; with -update
// it rewrites the file, for a reviewer to read.
func Golden(t testing.TB, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Errorf("%s differs from what was made, from line %d; -update rewrites it. Made was\n%s", file, i+1, strings.Join(g[min(i, len(g)):min(i+3, len(g))], "\n"))
			return
		}
	}
}

// Updating reports whether -update was given.
func Updating() bool { return *update }
