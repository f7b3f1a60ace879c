package flowspec

import (
	"fmt"
	"strings"
)

// ArtifactOf is the name of what makes a file of that name: it has no dots.
func ArtifactOf(file string) string { return strings.ReplaceAll(file, ".", "_") }

// collisions makes sure that no two things that the flow makes have one name.
func (c *checker) collisions(s *Spec) {
	owners := map[string]string{"validation_report": "the report of the flow"}
	claim := func(name, pointer, what string) {
		if other, ok := owners[name]; ok {
			c.add(pointer, "%s is named %q, and so is %s", what, name, other)
			return
		}
		owners[name] = what + " (" + pointer + ")"
	}
	claim(ArtifactOf(s.ZipFile), "/outputs", "the archive")
	table := func(name, pointer string) {
		claim(name, pointer, "the resource")
		claim(name+"_csv", pointer, "its CSV")
		claim(name+"_json", pointer, "its JSON")
		claim(name+"_csv_preview", pointer, "its preview")
		for _, o := range s.Outputs {
			if o.Kind == Parquet || o.Kind == XLSX {
				claim(name+"_"+o.Kind, pointer, "its "+o.Kind+" file")
			}
		}
	}
	for _, o := range s.Outputs {
		if o.Kind == SQLite {
			claim(ArtifactOf(o.File), "/outputs", "the database")
		}
	}
	inputs := map[string]bool{}
	for _, p := range s.Processing {
		inputs[p.Input] = true
	}
	for i, r := range s.Resources {
		pointer := fmt.Sprintf("/inputs/0/parameters/descriptor/resources/%d/name", i)
		_, tabular := r.Descriptor["schema"]
		processed := inputs[r.Name]
		if inputs[r.Name+"_original"] {
			claim(r.Name+"_original_original", pointer, "the copy of its copy")
		}
		switch {
		case tabular && !processed:
			table(r.Name, pointer)
			claim(r.Name+"_original", pointer, "the copy of it")
		case tabular || processed:
			claim(r.Name+"_original", pointer, "the copy of it")
		default:
			claim(r.Name, pointer, "the resource")
			if strings.HasSuffix(r.Name, "_original") {
				c.add(pointer, "the name must not end in _original")
			}
		}
	}
	for i, p := range s.Processing {
		table(p.Output, fmt.Sprintf("/processing/%d/output", i))
	}
}
