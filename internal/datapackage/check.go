package datapackage

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

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

//go:embed data-package-1.schema.json
var schema1 []byte

//go:embed data-package-2.schema.json
var schema2 []byte

// Schema is the JSON Schema (draft 2020-12) of a descriptor, by version 1 or 2 of the
// Data Package standard.
func Schema(version int) []byte {
	if version == 2 {
		return slices.Clone(schema2)
	}
	return slices.Clone(schema1)
}

// compiled are the schemas; they are ours, so they compile.
var compiled = map[int]func() (*jsonschema.Schema, error){
	1: sync.OnceValues(func() (*jsonschema.Schema, error) { return jsonschema.Compile(schema1) }),
	2: sync.OnceValues(func() (*jsonschema.Schema, error) { return jsonschema.Compile(schema2) }),
}

// Profile2 is the `$schema` of a descriptor by version 2 of the standard.
const Profile2 = "https://datapackage.org/profiles/2.0/datapackage.json"

// Version is the version of the standard that a descriptor is written by: 2 where its
// `$schema` says so, else 1, the standard's default.
func Version(descriptor map[string]any) int {
	if profile, _ := descriptor["$schema"].(string); strings.Contains(profile, "/profiles/2") {
		return 2
	}
	return 1
}

const maxProblems = 1000 // that are told at once

// Check gives what is wrong with a package's descriptor by the version of the standard
// that it is written by; the first thousand problems. What a Table Schema says is
// checked by whoever reads the table.
func Check(descriptor map[string]any) []Problem {
	problems := CheckProfile(descriptor)
	add := func(pointer, format string, args ...any) {
		problems = append(problems, Problem{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
	list, _ := descriptor["resources"].([]any)
	seen := map[string]bool{}
	for i, v := range list {
		at := Pointer("resources", i)
		r, ok := v.(map[string]any)
		if !ok {
			continue
		}
		if name, ok := r["name"].(string); ok {
			if seen[name] {
				add(at+"/name", "the name %q was used before", name)
			}
			seen[name] = true
		}
		for j, path := range Paths(r) {
			if !IsURL(path) && path != "" && !SafePath(path) {
				pointer := at + "/path"
				if _, list := r["path"].([]any); list {
					pointer += Pointer(j)
				}
				add(pointer, "%q is neither a URL nor a relative path inside the package", path)
			}
		}
		if r["path"] == nil && r["data"] != nil {
			if _, _, problem := Inline(r); problem != nil {
				add(at+problem.Pointer, "%s", problem.Message)
			}
		}
		_, wrong := Resolve(descriptor, r)
		for _, p := range wrong {
			add(at+p.Pointer, "%s", p.Message)
		}
	}
	return problems
}

// CheckProfile gives what the profile alone, a JSON Schema, says is wrong with a
// descriptor; the first thousand problems.
func CheckProfile(descriptor map[string]any) []Problem {
	schema, err := compiled[Version(descriptor)]()
	if err != nil {
		return []Problem{{Message: err.Error()}}
	}
	return schema.Check(descriptor, maxProblems)
}

// Paths are those of a resource: none, one, or those of its parts.
func Paths(resource map[string]any) []string {
	switch v := resource["path"].(type) {
	case string:
		return []string{v}
	case []any:
		paths := make([]string, 0, len(v))
		for _, p := range v {
			if p, ok := p.(string); ok {
				paths = append(paths, p)
			}
		}
		return paths
	}
	return nil
}
