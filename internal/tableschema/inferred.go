package tableschema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Column is what was inferred of a column.
type Column struct {
	Name    string           `json:"name"`
	Field   map[string]any   `json:"-"` // of the schema
	Type    string           `json:"type"`
	Values  int64            `json:"values"` // cells that are of the type; all others are missing values
	Empty   int64            `json:"empty"`
	Missing map[string]int64 `json:"missing,omitempty"` // marks of missing values and how often they are there
	// Why says what speaks for the type, or against another one. It is empty where nothing
	// needs to be said.
	Why string `json:"why,omitempty"`
	// Doubtful says that another reading of the cells is possible.
	Doubtful bool `json:"doubtful,omitempty"`
}

// decided is the type of a column.
type decided struct {
	name     string
	extra    map[string]any // of the field, beside name and type
	why      string
	doubtful bool
}

// Type is the type of a column, from 0. A column of which no cell was seen is of type
// any.
func (n *Inferrer) Type(column int) string {
	if column >= len(n.columns) {
		return "any"
	}
	return n.decide(&n.columns[column], n.decimals()).name
}

// decimal is how numbers of other columns are written.
type decimals struct{ commas, points bool }

// decimals looks for columns whose numbers can be read in one way alone.
func (n *Inferrer) decimals() decimals {
	switch n.Decimal {
	case ",":
		return decimals{commas: true}
	case ".":
		return decimals{points: true}
	}
	var d decimals
	for i := range n.columns {
		c := &n.columns[i]
		switch {
		case c.values == 0:
		case c.alive&isAnInteger != 0, c.isGeopoint():
		case c.alive&isANumber != 0:
			d.points = d.points || c.points && c.alive&numberBit(groupedByPoints) == 0
		case c.alive&numberBit(groupedByCommas) != 0:
		case c.alive&(numberBit(decimalComma)|numberBit(groupedByPoints)) != 0:
			d.commas = true
		}
	}
	return d
}

// The forms of numbers that can be mistaken for others.
const (
	decimalComma    = 0
	groupedByCommas = 1
	groupedByPoints = 2
)

// decide returns the type of a column.
func (n *Inferrer) decide(c *columnCounts, d decimals) decided {
	if c.values == 0 {
		if c.marked > 0 {
			return decided{name: "string"}
		}
		return decided{name: "any"}
	}
	const moreThanLetters = 4 // times as many values
	if most := letters(c.marks); c.alive != 0 && most > 0 && (most*moreThanLetters > c.values || c.alive&numeric == 0) {
		return decided{name: "string", why: "single letters are marks of missing values among many more numbers alone"}
	}
	for i, name := range inferredNames() {
		if c.alive&(1<<i) == 0 || 1<<i == isAGeopoint && !c.isGeopoint() || 1<<i == isADatetime && c.alive&isADate != 0 && !c.moments {
			continue
		}
		if 1<<i == isAnInteger || 1<<i == isANumber {
			if found, ok := n.grouped(c, d); ok {
				return found
			}
		}
		return decided{name: name}
	}
	if found, ok := c.date(); ok {
		return found
	}
	if found, ok := n.number(c, d); ok {
		return found
	}
	if found, ok := c.boolean(); ok {
		return found
	}
	return decided{name: "string", why: c.brokenBy()}
}

// isGeopoint reports whether a column is of geopoints and not of numbers with a decimal
// comma: a cell has a blank behind the comma, or a decimal point that parts no thousands.
func (c *columnCounts) isGeopoint() bool {
	return c.alive&isAGeopoint != 0 && c.pointed && c.alive&anyNumberForm == 0
}

// letters is how many marks are single letters.
func letters(marks []counted) int64 {
	var most int64
	for _, m := range marks {
		if len(m.text) == 1 && isLetter(m.text[0]) {
			most = max(most, m.n)
		}
	}
	return most
}

// grouped reads points as parting groups of digits where other columns have decimal
// commas and all numbers with a point here can be read so.
func (n *Inferrer) grouped(c *columnCounts, d decimals) (decided, bool) {
	if !d.commas || d.points || !c.points || c.alive&numberBit(groupedByPoints) == 0 {
		return decided{}, false
	}
	found := writtenAs(numberForms[groupedByPoints])
	found.why, found.doubtful = "points part thousands, for other columns have decimal commas", true
	return found, true
}

func writtenAs(f writtenNumber) decided {
	found := decided{name: "number", extra: map[string]any{}}
	if f.decimal != "." {
		found.extra["decimalChar"] = f.decimal
	}
	if f.group != "" {
		found.extra["groupChar"] = f.group
	}
	return found
}

// number is a column of numbers that are not in the default form.
func (n *Inferrer) number(c *columnCounts, d decimals) (decided, bool) {
	if c.alive&anyNumberForm == 0 {
		return decided{}, false
	}
	if c.alive&numberBit(decimalComma) != 0 && c.alive&numberBit(groupedByCommas) != 0 {
		comma := d.commas && !d.points || d.commas == d.points && n.Delimiter == ";"
		form, why := groupedByCommas, "a comma before three digits was taken to part thousands"
		if comma {
			form, why = decimalComma, "a comma before three digits was taken for a decimal comma"
		}
		found := writtenAs(numberForms[form])
		found.why, found.doubtful = why, d.commas == d.points
		return found, true
	}
	for i, f := range numberForms {
		if c.alive&numberBit(i) != 0 {
			found := writtenAs(f)
			return found, true
		}
	}
	return decided{}, false
}

// date is a column of dates that are not in the default form.
func (c *columnCounts) date() (decided, bool) {
	for i, f := range dateForms {
		if c.alive&dateBit(i) == 0 {
			continue
		}
		if f.rival >= 0 && c.alive&dateBit(f.rival) != 0 {
			return decided{name: "string", doubtful: true, why: fmt.Sprintf("the dates are of the form %s or %s, and no cell decides it", f.pattern, dateForms[f.rival].pattern)}, true
		}
		return decided{name: "date", extra: map[string]any{"format": f.pattern}}, true
	}
	return decided{}, false
}

// booleanWords are pairs of words for true and false.
func booleanWords() [][2]string {
	return [][2]string{
		{"true", "false"},
		{"yes", "no"},
		{"y", "n"},
		{"on", "off"},
		{"ja", "nein"},
		{"j", "n"},
		{"wahr", "falsch"},
		{"oui", "non"},
		{"vrai", "faux"},
		{"si", "no"},
		{"sí", "no"},
		{"sì", "no"},
		{"sim", "não"},
		{"ja", "nee"},
		{"ja", "nej"},
		{"ja", "nei"},
		{"tak", "nie"},
		{"ano", "ne"},
		{"áno", "nie"},
		{"igen", "nem"},
		{"kyllä", "ei"},
		{"да", "нет"},
		{"da", "ne"},
		{"da", "nu"},
		{"evet", "hayır"},
		{"verdadero", "falso"},
		{"vero", "falso"},
	}
}

// boolean is a column of the two words of a pair, in any case of letters.
func (c *columnCounts) boolean() (decided, bool) {
	if c.wordy || len(c.words) < 2 {
		return decided{}, false
	}
	for _, pair := range booleanWords() {
		var yes, no []any
		for _, w := range c.words {
			switch strings.ToLower(w.text) {
			case pair[0]:
				yes = append(yes, w.text)
			case pair[1]:
				no = append(no, w.text)
			}
		}
		if len(yes) > 0 && len(no) > 0 && len(yes)+len(no) == len(c.words) {
			return decided{name: "boolean", extra: map[string]any{"trueValues": yes, "falseValues": no}}, true
		}
	}
	return decided{}, false
}

// brokenBy says why a column that was of another type for some rows is one of texts.
func (c *columnCounts) brokenBy() string {
	if c.broken == nil || c.values == 1 || c.broken.was == anyType {
		return c.why
	}
	was := "of another type"
	for i, name := range inferredNames() {
		if c.broken.was&(1<<i) != 0 {
			was = "of type " + name
			break
		}
	}
	switch {
	case was == "of another type" && c.broken.was&anyDateForm != 0:
		was = "dates"
	case was == "of another type" && c.broken.was&anyNumberForm != 0:
		was = "numbers"
	}
	at := ""
	if c.broken.row > 0 {
		at = fmt.Sprintf(" of row %d", c.broken.row)
	}
	text := fmt.Sprintf("the cells before are %s, but %s%s is not", was, c.broken.cell, at)
	if c.why != "" {
		text += ": it is " + c.why
	}
	return text
}

// Inferred returns all columns of a table with these labels; nil means that it has none.
// A blank label gives the name field and its place, from 1, and one that was used before
// gets a number (a, a2, a3). Columns beyond the labels are left out.
func (n *Inferrer) Inferred(labels []string) []Column {
	if labels == nil {
		labels = make([]string, len(n.columns))
	}
	d := n.decimals()
	columns := make([]Column, len(labels))
	for i, name := range FieldNames(labels) {
		col := &columns[i]
		col.Name, col.Type = name, "any"
		col.Field = map[string]any{"name": name, "format": "default"}
		if i < len(n.columns) {
			c := &n.columns[i]
			found := n.decide(c, d)
			col.Type, col.Why, col.Doubtful = found.name, found.why, found.doubtful
			maps.Copy(col.Field, found.extra)
			col.Values, col.Empty = c.values, c.empty
			switch found.name {
			case "string", "any":
				col.Values += c.marked
			default:
				for _, m := range c.marks {
					if col.Missing == nil {
						col.Missing = map[string]int64{}
					}
					col.Missing[m.text] = m.n
				}
			}
		}
		col.Field["type"] = col.Type
	}
	return columns
}

// Schema is the Table Schema of inferred columns. Marks of missing values are the
// schema's where no text of another column is the same, else those of the fields.
func (n *Inferrer) Schema(columns []Column) map[string]any {
	texts, more := map[string]bool{}, false
	for i, col := range columns {
		if i < len(n.columns) && col.Type == "string" {
			more = more || len(n.columns[i].marks) == keptMarks
			for _, m := range n.columns[i].marks {
				texts[m.text] = true
			}
		}
	}
	missing := []any{""}
	fields := make([]any, len(columns))
	for i, col := range columns {
		fields[i] = col.Field
		marks := slices.Sorted(maps.Keys(col.Missing))
		own := len(marks) > 0 && more || slices.ContainsFunc(marks, func(text string) bool { return texts[text] })
		list := []any{""}
		for _, text := range marks {
			if own {
				list = append(list, text)
			} else if !slices.Contains(missing, any(text)) {
				missing = append(missing, text)
			}
		}
		if own {
			col.Field["missingValues"] = list
		}
	}
	return map[string]any{"fields": fields, "missingValues": missing}
}
