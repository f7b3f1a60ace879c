package flowspec

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// sqliteNames begins the names that SQLite keeps for itself.
const sqliteNames = "sqlite_"

// ArtifactOf is the name of what makes a file of that name: it has no dots.
func ArtifactOf(file string) string { return strings.ReplaceAll(file, ".", "_") }

// Fold is what names that differ in case alone have in common: they are one name to many
// file systems and to databases (Unicode, full case folding, in the composed form).
func Fold(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return norm.NFC.String(cases.Fold().String(norm.NFC.String(name)))
		}
	}
	return strings.ToLower(name)
}

// claimed is a name that something that the flow makes has.
type claimed struct{ name, what, pointer string }

func (c claimed) String() string {
	if c.pointer == "" {
		return c.what
	}
	return c.what + " (" + c.pointer + ")"
}

// collisions makes sure that no two things that the flow makes have one name, also where
// case does not count.
func (c *checker) collisions(s *Spec) {
	owners := map[string]claimed{"validation_report": {"validation_report", "the report of the flow", ""}}
	claim := func(name, pointer, what string) {
		other, ok := owners[Fold(name)]
		switch {
		case !ok:
			owners[Fold(name)] = claimed{name, what, pointer}
		case other.name == name:
			c.add(pointer, "%s is named %q, and so is %s", what, name, other)
		default:
			c.add(pointer, "%s is named %q, and %s %q: many file systems and databases see no difference in case, so give one another name", what, name, other, other.name)
		}
	}
	claim(ArtifactOf(s.ZipFile), "/outputs", "the archive")
	table := func(name, pointer string) {
		if s.Wants(SQLite) && strings.HasPrefix(Fold(name), sqliteNames) {
			c.add(pointer, "the name %q begins with %s, which SQLite keeps for its own tables: give it another name, or leave the output out", name, sqliteNames)
		}
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
