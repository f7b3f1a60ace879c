package datapackage

import (
	"fmt"
	"strings"

	"github.com/datahq/specstore/internal/jsonschema"
)

// Problem is one thing that is wrong with a document.
type Problem = jsonschema.Problem

// Pointer makes a JSON pointer of its parts.
func Pointer(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(pointerEscapes.Replace(fmt.Sprint(p)))
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// IsURL reports whether a path is an address that is fetched.
func IsURL(path string) bool {
	scheme, _, ok := strings.Cut(path, "://")
	if !ok {
		return false
	}
	scheme = strings.ToLower(scheme)
	return scheme == "http" || scheme == "https"
}

// Extension is what stands behind the last dot of the last segment of a path or
// address, leading dots left out. Queries and fragments are not cut off.
func Extension(path string) string {
	segment := strings.TrimLeft(path[strings.LastIndexByte(path, '/')+1:], ".")
	dot := strings.LastIndexByte(segment, '.')
	if dot < 0 {
		return ""
	}
	return segment[dot+1:]
}

// SafePath reports whether a path is relative and stays inside its package, as
// the Data Package standard asks ("URL or Path").
func SafePath(path string) bool {
	if path == "" || strings.ContainsAny(path, "\\\x00") || strings.HasPrefix(path, "/") || strings.HasPrefix(path, "~") {
		return false
	}
	if len(path) > 1 && path[1] == ':' || strings.Contains(path, "://") { // a drive, or a scheme that is not fetched
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return false
		}
	}
	return true
}

// Check gives all that is wrong with a package's descriptor in what its readers
// rely on: resources with names and paths. What a schema says is checked by
// whoever reads the table.
func Check(descriptor map[string]any) []Problem {
	var problems []Problem
	add := func(pointer, format string, args ...any) {
		problems = append(problems, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	list, ok := descriptor["resources"].([]any)
	if !ok || len(list) == 0 {
		add("/resources", "must be a list of at least one resource")
		return problems
	}
	seen := map[string]bool{}
	for i, v := range list {
		at := Pointer("resources", i)
		r, ok := v.(map[string]any)
		if !ok {
			add(at, "must be an object")
			continue
		}
		name, ok := r["name"].(string)
		switch {
		case !ok || name == "":
			add(at+"/name", "must be a text that is not empty")
		case seen[name]:
			add(at+"/name", "the name %q was used before", name)
		}
		seen[name] = true
		switch path := r["path"].(type) {
		case string:
			if !IsURL(path) && !SafePath(path) {
				add(at+"/path", "%q is neither a URL nor a relative path inside the package", path)
			}
		case nil:
			add(at+"/path", "is missing: data inside a descriptor is not supported")
		default:
			add(at+"/path", "must be a text: data in several files is not supported")
		}
		for _, k := range []string{"schema", "dialect"} {
			if v, ok := r[k]; ok && v != nil {
				if _, ok := v.(map[string]any); !ok {
					add(at+"/"+k, "must be an object")
				}
			}
		}
	}
	return problems
}
