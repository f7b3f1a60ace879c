package standard

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/pattern"
	"github.com/datahq/specstore/internal/processor/python"
)

// parameters reads those of a step. The first that is wrong is kept as the error.
type parameters struct {
	m    map[string]any
	path string // of the parameter that m is, for messages
	err  error

	patterns *pattern.Budget // of the expressions in parameters
}

func (p *parameters) fail(key, format string, args ...any) {
	if p.err == nil {
		p.err = invalid("parameter %q %s", p.path+key, fmt.Sprintf(format, args...))
	}
}

// wrap keeps an error of the value of a parameter.
func (p *parameters) wrap(key string, err error) {
	if err != nil {
		p.fail(key, "is wrong: %s", errs.Detail(err))
	}
}

// first is the first of some names that is given, "" where none is.
func (p *parameters) first(keys ...string) string {
	for _, key := range keys {
		if v, ok := p.m[key]; ok && v != nil {
			return key
		}
	}
	return ""
}

// text reads a text; one of the keys may give it.
func (p *parameters) text(fallback string, keys ...string) string {
	key := p.first(keys...)
	if key == "" {
		return fallback
	}
	s, ok := p.m[key].(string)
	if !ok {
		p.fail(key, "must be a text")
		return fallback
	}
	return s
}

// required reads a text that must be given.
func (p *parameters) required(keys ...string) string {
	s := p.text("", keys...)
	if s == "" && p.err == nil {
		p.fail(keys[0], "must be a text")
	}
	return s
}

func (p *parameters) boolean(fallback bool, keys ...string) bool {
	key := p.first(keys...)
	if key == "" {
		return fallback
	}
	b, ok := p.m[key].(bool)
	if !ok {
		p.fail(key, "must be true or false")
		return fallback
	}
	return b
}

// number reads a whole number that is not negative; -1 where none is given.
func (p *parameters) number(keys ...string) int {
	key := p.first(keys...)
	if key == "" {
		return -1
	}
	n, ok := whole(p.m[key])
	if !ok || n < 0 {
		p.fail(key, "must be a whole number, from 0")
		return -1
	}
	return n
}

func whole(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case int64:
		return int(v), v == int64(int(v))
	case float64:
		return int(v), v == math.Trunc(v) && math.Abs(v) < 1<<31
	case json.Number:
		n, err := strconv.Atoi(string(v))
		return n, err == nil
	}
	return 0, false
}

func (p *parameters) object(key string) map[string]any {
	v, ok := p.m[key]
	if !ok || v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		p.fail(key, "must be an object")
	}
	return m
}

// list reads a list; a key that is not given is an empty one.
func (p *parameters) list(key string) []any {
	v, ok := p.m[key]
	if !ok || v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		p.fail(key, "must be a list")
	}
	return list
}

func (p *parameters) texts(key string) []string {
	var out []string
	for i, v := range p.list(key) {
		s, ok := v.(string)
		if !ok {
			p.fail(fmt.Sprintf("%s/%d", key, i), "must be a text")
		}
		out = append(out, s)
	}
	return out
}

// each reads a list of objects.
func (p *parameters) each(key string, f func(*parameters)) {
	for i, v := range p.list(key) {
		at := fmt.Sprintf("%s/%d", key, i)
		m, ok := v.(map[string]any)
		if !ok {
			p.fail(at, "must be an object")
			return
		}
		p.inside(at, m, f)
	}
}

// inside reads an object that a parameter is.
func (p *parameters) inside(key string, m map[string]any, f func(*parameters)) {
	if m == nil {
		m = map[string]any{}
	}
	in := &parameters{m: m, path: p.path + key + "/", patterns: p.patterns}
	f(in)
	if p.err == nil {
		p.err = in.err
	}
}

// pattern reads an expression that must match a whole name.
func (p *parameters) pattern(key, text string) *python.Regexp {
	re, err := python.CompileFull(text, p.patterns)
	p.wrap(key, err)
	return re
}

// matcher says which resources a step is for.
type matcher struct {
	all     bool
	pattern *python.Regexp
	names   []string
	index   int
}

// matcher reads which resources a step is for: nothing for all, an expression for
// their names, a list of names, or the place of one, from 0.
func (p *parameters) matcher(key string) *matcher {
	v := p.m[key]
	m := &matcher{}
	switch v := v.(type) {
	case nil:
		m.all = true
	case string:
		m.pattern = p.pattern(key, v)
	case []any:
		m.names = append([]string{}, p.texts(key)...)
	default:
		n, ok := whole(v)
		if !ok {
			p.fail(key, "must be a name, a list of names or a number")
		}
		m.index = n
	}
	return m
}

// matches reports whether a resource, at a place in its package, is meant. A
// negative index counts from the end.
func (m *matcher) matches(name string, at, count int) bool {
	switch {
	case m.all:
		return true
	case m.pattern != nil:
		return m.pattern.Match(name)
	case m.names != nil:
		return slices.Contains(m.names, name)
	}
	return at == m.index || m.index < 0 && at == count+m.index
}

// among gives the resources of a list that are meant.
func (m *matcher) among(list []map[string]any) []map[string]any {
	var out []map[string]any
	for i, r := range list {
		if m.matches(nameOf(r), i, len(list)) {
			out = append(out, r)
		}
	}
	return out
}

// selected tells resources that are meant from others, by identity.
type selected []map[string]any

func (m *matcher) selected(p *Package) selected {
	var out selected
	for _, r := range m.among(p.resources()) {
		if streaming(r) {
			out = append(out, r)
		}
	}
	return out
}

func (s selected) has(r map[string]any) bool {
	for _, one := range s {
		if same(one, r) {
			return true
		}
	}
	return false
}
