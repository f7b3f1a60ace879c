// Package pattern compiles regular expressions of users within a budget of memory.
//
// A short expression may compile to a long program: \w{900} has a table of letters of
// all scripts in each of its 900 places. What a program will take is computed from the
// parsed expression, before anything is compiled, and the sum over the expressions of
// one document is bounded, not only each of them.
package pattern

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"sync"
)

// MaxBytes bounds the memory of all compiled expressions of one document together: of a
// Table Schema, of a Flow-Spec, of the steps of a pipeline.
const MaxBytes = 32 << 20

// SizeError says that the expressions of a document need more memory than they may.
type SizeError struct{ Limit int64 }

// Error names the limit and what to do.
func (e *SizeError) Error() string {
	return fmt.Sprintf("the regular expressions need more than %d MiB of memory together when compiled, the limit: repeat large classes such as \\w less often, or use fewer patterns", e.Limit>>20)
}

// Budget is the memory that the expressions of one document may still take, and keeps
// what was compiled: the same expression is compiled and counted once. The zero value has
// nothing left. It may be used from several goroutines.
type Budget struct {
	mu          sync.Mutex
	left, limit int64
	compiled    map[string]Compiled
}

// Compiled is a regular expression with its cost.
type Compiled struct {
	*regexp.Regexp

	Cost Cost
}

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int64) *Budget {
	return &Budget{left: bytes, limit: bytes, compiled: map[string]Compiled{}}
}

// Spend takes bytes off the budget. Its error is a [*SizeError].
func (b *Budget) Spend(bytes int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spend(bytes)
}

func (b *Budget) spend(bytes int64) error {
	if bytes > b.left {
		b.left = 0
		return &SizeError{b.limit}
	}
	b.left -= bytes
	return nil
}

// Spent returns what was taken off the budget.
func (b *Budget) Spent() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit - b.left
}

// Compile compiles an expression in the syntax of package regexp. Its error is a
// [*SizeError] where the budget is too small, else that of package regexp.
func (b *Budget) Compile(expression string) (Compiled, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, ok := b.compiled[expression]; ok {
		return c, nil
	}
	cost, err := Estimate(expression)
	if err != nil {
		return Compiled{}, err
	}
	if err := b.spend(cost.Bytes); err != nil {
		return Compiled{}, err
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return Compiled{}, err
	}
	c := Compiled{re, cost}
	b.compiled[expression] = c
	return c, nil
}

// Cost is what a compiled expression takes, rounded up.
type Cost struct {
	Instructions int64 // of its program: a text is matched in proportion to these
	Bytes        int64 // of memory, program and tables
}

// What package regexp needs beside the tables of classes: a program is kept once or
// twice (as a program of one pass), with the states of its machine.
const (
	fixedBytes       = 1 << 10
	instructionBytes = 160
	// A class is two runes a range in the program, its copy of one pass, and a target
	// a range there.
	rangeBytes = 24
)

// Estimate computes the cost of an expression without compiling it. Its error is that of
// package regexp.
func Estimate(expression string) (Cost, error) {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return Cost{}, err
	}
	c := estimate(re)
	c.Instructions += 2
	c.Bytes += fixedBytes + int64(len(expression))
	return c, nil
}

func estimate(re *syntax.Regexp) Cost {
	var sum Cost
	add := func(instructions, bytes int64) {
		sum.Instructions += instructions
		sum.Bytes += instructions*instructionBytes + bytes
	}
	switch re.Op {
	case syntax.OpLiteral:
		add(int64(len(re.Rune)), 0)
		if re.Flags&syntax.FoldCase != 0 {
			add(0, int64(len(re.Rune))*4*rangeBytes)
		}
	case syntax.OpCharClass:
		add(1, int64(len(re.Rune)/2)*rangeBytes)
	case syntax.OpCapture:
		add(2, 0)
	default:
		add(1, 0)
	}
	for _, sub := range re.Sub {
		c := estimate(sub)
		sum.Instructions += c.Instructions
		sum.Bytes += c.Bytes
	}
	if re.Op == syntax.OpRepeat {
		// The parser bounds repetitions within repetitions, so this does not overflow.
		n := int64(max(re.Min, re.Max, 1))
		sum.Instructions, sum.Bytes = (sum.Instructions+1)*n, (sum.Bytes+instructionBytes)*n
	}
	return sum
}
