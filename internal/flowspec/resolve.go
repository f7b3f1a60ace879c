package flowspec

import (
	"maps"
	"strconv"
	"strings"
)

// resolve gives a resource with what its schema and dialect point at in their
// place, and without a schema or dialect that is null.
func (c *checker) resolve(root, raw map[string]any, at string) map[string]any {
	out := maps.Clone(raw)
	for _, key := range []string{"schema", "dialect"} {
		v, ok := raw[key]
		switch v := v.(type) {
		case nil:
			if ok {
				delete(out, key)
			}
		case map[string]any:
		case string:
			target, ok := lookup(root, v).(map[string]any)
			if !ok {
				c.add(at+"/"+key, "%s must be an object, or a pointer (#/…) to one in the descriptor", key)
				continue
			}
			out[key] = target
		}
	}
	return out
}

// lookup follows a JSON pointer of the form #/a/0/b; nil where it leads nowhere.
func lookup(v any, pointer string) any {
	rest, ok := strings.CutPrefix(pointer, "#/")
	if !ok {
		return nil
	}
	for part := range strings.SplitSeq(rest, "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch at := v.(type) {
		case map[string]any:
			v = at[part]
		case []any:
			i := -1
			if allDigits(part) && len(part) < 10 {
				i, _ = strconv.Atoi(part) // it is one
			}
			if i < 0 || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}
