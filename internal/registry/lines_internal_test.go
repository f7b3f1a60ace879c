package registry

import (
	"encoding/json"
	"slices"
	"testing"
)

// The short way to read a list of text gives what the long one gives.
func FuzzPlainLines(f *testing.F) {
	for _, s := range []string{`["a"]`, `["a","b"]`, `["a", "b"]`, `[""]`, `["a"],`, `["a",]`, `["a""b"]`, `["\n"]`, `["é","]"]`, "[\"\x00\"]", "[\"\xff\"]", `[1]`, `["a"`, `[]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := plainLines(s)
		var want []string
		err := json.Unmarshal([]byte(s), &want)
		// Control characters, which JSON forbids, are let through: the registry has none.
		if ok && err == nil && !slices.Equal(got, want) || ok && err != nil && !hasControl(s) {
			t.Errorf("%q: %q, want %q %v", s, got, want, err)
		}
	})
}

func hasControl(s string) bool {
	return slices.ContainsFunc([]byte(s), func(b byte) bool { return b < 0x20 })
}
