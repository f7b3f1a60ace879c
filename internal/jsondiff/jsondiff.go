// Package jsondiff says what differs between two JSON values.
//
// A difference is an add, a remove or a replace of one value at a place, named by a
// JSON Pointer (RFC 6901). Applying all of them to the first value gives the second
// one, where none had to be left out. Members of objects are compared by name; so are
// items of lists, where each item is an object with a text under "name" of its own on
// both sides, as resources and fields have, and else by position. It opens nothing.
package jsondiff

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Op is what was done to a value.
type Op string

// The kinds of differences.
const (
	Add     Op = "add"
	Remove  Op = "remove"
	Replace Op = "replace"
)

// Change is a difference.
type Change struct {
	Op      Op     `json:"op"`
	Pointer string `json:"pointer"` // in the new value; of a removed one in the old value
	Old     any    `json:"old,omitempty"`
	New     any    `json:"new,omitempty"`
}

// Compare gives the differences between two values of the JSON value space, in the
// order of the members' names, at most as many as asked for, and how many were left out.
func Compare(before, after any, most int) (changes []Change, left int) {
	c := &comparer{most: most, changes: []Change{}}
	c.value("", "", before, after)
	return c.changes, c.left
}

type comparer struct {
	most, left int
	changes    []Change
}

func (c *comparer) add(change Change) {
	if len(c.changes) == c.most {
		c.left++
		return
	}
	c.changes = append(c.changes, change)
}

// value compares two values that stand at a place in the old and in the new value.
func (c *comparer) value(was, is string, before, after any) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			c.objects(was, is, b, a)
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			c.lists(was, is, b, a)
			return
		}
	}
	if !equal(before, after) {
		c.add(Change{Op: Replace, Pointer: is, Old: before, New: after})
	}
}

// equal compares values that are not both objects or both lists. Numbers are equal
// where they are written alike: 1 and 1.0 are different texts of a spec.
func equal(a, b any) bool {
	if n, ok := a.(json.Number); ok {
		m, ok := b.(json.Number)
		return ok && n == m
	}
	return reflect.DeepEqual(a, b)
}

func (c *comparer) objects(was, is string, before, after map[string]any) {
	names := slices.Collect(maps.Keys(before))
	for name := range after {
		if _, ok := before[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		b, old := before[name]
		a, kept := after[name]
		from, to := was+"/"+escape(name), is+"/"+escape(name)
		switch {
		case !kept:
			c.add(Change{Op: Remove, Pointer: from, Old: b})
		case !old:
			c.add(Change{Op: Add, Pointer: to, New: a})
		default:
			c.value(from, to, b, a)
		}
	}
}

func (c *comparer) lists(was, is string, before, after []any) {
	at := func(place string, i int) string { return place + "/" + strconv.Itoa(i) }
	old, ok1 := byName(before)
	kept, ok2 := byName(after)
	if !ok1 || !ok2 {
		for i := range max(len(before), len(after)) {
			switch {
			case i >= len(after):
				c.add(Change{Op: Remove, Pointer: at(was, i), Old: before[i]})
			case i >= len(before):
				c.add(Change{Op: Add, Pointer: at(is, i), New: after[i]})
			default:
				c.value(at(was, i), at(is, i), before[i], after[i])
			}
		}
		return
	}
	for i, b := range before {
		if j, ok := kept[nameOf(b)]; ok {
			c.value(at(was, i), at(is, j), b, after[j])
		} else {
			c.add(Change{Op: Remove, Pointer: at(was, i), Old: b})
		}
	}
	for j, a := range after {
		if _, ok := old[nameOf(a)]; !ok {
			c.add(Change{Op: Add, Pointer: at(is, j), New: a})
		}
	}
}

func nameOf(item any) string {
	m, _ := item.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// byName finds the items by their names, where each has one.
func byName(list []any) (map[string]int, bool) {
	names := make(map[string]int, len(list))
	for i, item := range list {
		name := nameOf(item)
		if _, twice := names[name]; name == "" || twice {
			return nil, false
		}
		names[name] = i
	}
	return names, true
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

func escape(name string) string { return escaper.Replace(name) }
