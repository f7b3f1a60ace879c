package datapackage

import (
	"maps"
	"strconv"
	"strings"
)

// Resolve gives a resource with what its schema and dialect point at in their places,
// and without those that are null. Pointers (#/…) lead into the package's descriptor;
// nothing else is followed. The problems have their place in the resource.
func Resolve(descriptor, resource map[string]any) (map[string]any, []Problem) {
	var problems []Problem
	out := maps.Clone(resource)
	for _, key := range []string{"schema", "dialect"} {
		v, ok := resource[key]
		switch v := v.(type) {
		case nil:
			if ok {
				delete(out, key)
			}
		case string:
			target, ok := lookup(descriptor, v).(map[string]any)
			if !ok {
				problems = append(problems, Problem{Pointer: "/" + key, Message: key + " must be an object, or a pointer (#/…) to one in the descriptor"})
				continue
			}
			out[key] = target
		}
	}
	return out, problems
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
			i, err := strconv.ParseUint(part, 10, 31)
			if err != nil || int(i) >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}
