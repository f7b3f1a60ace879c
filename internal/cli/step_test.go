package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/processor/standard"
	"github.com/datahq/specstore/internal/testkit"
)

// TestSweep: what a step left for the next one goes after a day, and nothing else does.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := func() string {
		f := testkit.Must(os.CreateTemp(dir, standard.KeptFiles+"README.md"))(t)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	old, young := kept(), kept()
	other, folder := filepath.Join(dir, "README.md"), filepath.Join(dir, "specstore-kept-1-x")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, name := range []string{old, other, folder} {
		if err := os.Chtimes(name, now, now.Add(-keptFor-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	sweep(dir, now)
	for name, want := range map[string]bool{old: false, young: true, other: true, folder: true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
