package jsondiff_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/datahq/specstore/internal/jsondiff"
	"github.com/datahq/specstore/internal/testkit"
)

func parse(t testing.TB, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, after, want string }{
		{`1`, `1`, `[]`},
		{`1`, `1.0`, `[{"op":"replace","pointer":"","old":1,"new":1.0}]`},
		{`{"a":1,"b":{"c":[1,2]}}`, `{"b":{"c":[1,2]},"a":1}`, `[]`},
		{`{"a":1}`, `{"b":2}`, `[{"op":"remove","pointer":"/a","old":1},{"op":"add","pointer":"/b","new":2}]`},
		{`{"a":null}`, `{"a":0}`, `[{"op":"replace","pointer":"/a","new":0}]`},
		{`{"a/b":{"~":1}}`, `{"a/b":{"~":"x"}}`, `[{"op":"replace","pointer":"/a~1b/~0","old":1,"new":"x"}]`},
		{`[1,2,3]`, `[1,4]`, `[{"op":"replace","pointer":"/1","old":2,"new":4},{"op":"remove","pointer":"/2","old":3}]`},
		{`{"a":[]}`, `{"a":{}}`, `[{"op":"replace","pointer":"/a","old":[],"new":{}}]`},
		{
			`{"fields":[{"name":"x","type":"string"},{"name":"y"}]}`, `{"fields":[{"name":"z"},{"name":"x","type":"integer"}]}`,
			`[{"op":"replace","pointer":"/fields/1/type","old":"string","new":"integer"},{"op":"remove","pointer":"/fields/1","old":{"name":"y"}},{"op":"add","pointer":"/fields/0","new":{"name":"z"}}]`,
		},
		{`[{"name":"x"},{"name":"x"}]`, `[{"name":"x"}]`, `[{"op":"remove","pointer":"/1","old":{"name":"x"}}]`},
	} {
		changes, left := jsondiff.Compare(parse(t, c.before), parse(t, c.after), 100)
		got := string(testkit.Must(json.Marshal(changes))(t))
		if got != c.want || left != 0 {
			t.Errorf("from %s to %s: %s, want %s", c.before, c.after, got, c.want)
		}
	}
	changes, left := jsondiff.Compare(parse(t, `[1,2,3,4]`), parse(t, `[5,6,7,8]`), 3)
	if len(changes) != 3 || left != 1 {
		t.Errorf("%d changes, %d left out", len(changes), left)
	}
}

// A value is no different from itself, and what differs is said both ways.
func TestBothWays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		a, b := random(rnd, 3), random(rnd, 3)
		if changes, _ := jsondiff.Compare(a, a, 10); len(changes) != 0 {
			t.Fatalf("%v differs from itself by %v", a, changes)
		}
		there, _ := jsondiff.Compare(a, b, 1000)
		back, _ := jsondiff.Compare(b, a, 1000)
		if len(there) != len(back) {
			t.Fatalf("from %v to %v: %v and back %v", a, b, there, back)
		}
	}
}

func random(rnd *rand.Rand, depth int) any {
	switch n := rnd.IntN(6); {
	case depth > 0 && n < 2:
		m := map[string]any{}
		for range rnd.IntN(4) {
			m[fmt.Sprint("k", rnd.IntN(4))] = random(rnd, depth-1)
		}
		return m
	case depth > 0 && n == 2:
		var list []any
		for range rnd.IntN(4) {
			list = append(list, random(rnd, depth-1))
		}
		return list
	case n == 3:
		return nil
	}
	return json.Number(fmt.Sprint(rnd.IntN(3)))
}
