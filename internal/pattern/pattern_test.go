package pattern_test

import (
	"errors"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/pattern"
)

// TestEstimate: an estimate is not below what compiling takes, and for expressions in
// use not far above.
func TestEstimate(t *testing.T) {
	for _, expression := range []string{
		`\A(?:[\p{L}\p{N}_]{900})\z`,
		`[\p{L}\p{N}_]{900}`,
		`\A(?:(?:[\p{L}\p{N}_]{30}x){30})\z`,
		`\A(?:a{1000})\z`,
		`\A(?:.{1000})\z`,
		`\A(?:(?i)\pL{500})\z`,
		`\A(?:` + strings.Repeat(`[\p{L}\p{N}_]`, 300) + `)\z`,
		`(?i)` + strings.Repeat(`kelvin`, 600),
		`\A(?:(?:(?:a{10}){10}){10})\z`,
		`\A(?:` + strings.Repeat(`a|bc|`, 800) + `)\z`,
		`\A(?:[A-Z]{2}[\p{Nd}]{4})\z`,
		`\A(?:` + strings.Repeat(`(a?)`, 500) + `)\z`,
	} {
		cost, err := pattern.Estimate(expression)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		re := regexp.MustCompile(expression)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(re)
		got := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%.30s: estimate %d, kept %d", expression, cost.Bytes, got)
		if got > cost.Bytes+cost.Bytes/4+8<<10 {
			t.Errorf("%.30s: estimate of %d bytes, %d are kept", expression, cost.Bytes, got)
		}
	}
}

// TestBudget: the sum is bounded, not only each expression.
func TestBudget(t *testing.T) {
	b := pattern.NewBudget(pattern.MaxBytes)
	n := 0
	for ; n < 1000; n++ {
		_, err := b.Compile(`\A(?:[\p{L}\p{N}_]{300})\z` + strings.Repeat("x", n))
		if _, ok := errors.AsType[*pattern.SizeError](err); ok {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 || n == 1000 {
		t.Fatalf("%d expressions were compiled, want a few", n)
	}
	if _, err := b.Compile(`a`); err == nil {
		t.Error("a budget that was exceeded gave more")
	}
	if _, err := b.Compile(`\A(?:[\p{L}\p{N}_]{300})\z`); err != nil {
		t.Errorf("an expression that is compiled: %v", err)
	}
}
