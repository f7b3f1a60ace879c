package tableschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/stream"
)

// typeSet is a set of the types that are inferred, a bit each, in the order in which
// they are tried. The order is that of frictionless v5: a type comes before those
// that take its cells too.
type typeSet uint16

const (
	isAYearMonth typeSet = 1 << iota
	isAGeopoint
	isADuration
	isAGeoJSON
	isAnObject
	isAnArray
	isADatetime
	isATime
	isADate
	isAnInteger
	isANumber
	isABoolean
	isAYear
	inferredTypes = iota
)

// inferredNames are the types by their bits.
func inferredNames() [inferredTypes]string {
	return [...]string{
		"yearmonth", "geopoint", "duration", "geojson", "object", "array",
		"datetime", "time", "date", "integer", "number", "boolean", "year",
	}
}

// Inferrer finds the types of columns from all their cells. A column gets the first
// type, in the order of frictionless v5 (yearmonth, geopoint, duration, geojson,
// object, array, datetime, time, date, integer, number, boolean, year), that nine
// tenths of its cells satisfy, empty cells counting for all; else it is a string, and
// a column without any text is of type any. A cell satisfies a type where
// [Caster.Cast] takes it in the type's default format.
//
// It keeps some counts a column and no cell. Its zero value is ready.
type Inferrer struct{ columns []columnCounts }

type columnCounts struct {
	cells int64 // with text
	empty int64
	fits  [inferredTypes]int64
}

// share is the part of the cells that a type must fit: nine of ten.
const (
	shareOf = 10
	share   = 9
)

// Add notes a cell of a column, from 0. Text is looked at for what it may be; a cell
// that has a kind in its file is of that kind. Columns beyond [MaxFields] are not
// looked at.
func (n *Inferrer) Add(column int, kind stream.Kind, cell []byte) {
	if column >= len(n.columns) {
		if column >= MaxFields {
			return
		}
		n.columns = append(n.columns, make([]columnCounts, column+1-len(n.columns))...)
	}
	c := &n.columns[column]
	if len(cell) == 0 || kind == stream.Null {
		c.empty++
		return
	}
	c.cells++
	for set := typesOf(kind, cell); set != 0; set &= set - 1 {
		c.fits[bits.TrailingZeros16(uint16(set))]++
	}
}

// AddBatch notes all rows of a batch.
func (n *Inferrer) AddBatch(b *stream.Batch) {
	for r := range b.Rows() {
		for c := range b.Width(r) {
			n.Add(c, b.Kind(r, c), b.Cell(r, c))
		}
	}
}

// Columns is the number of columns of which cells were seen.
func (n *Inferrer) Columns() int { return len(n.columns) }

// Type is the type of a column, from 0, and how many of its cells are none of that
// type. A column of which no cell was seen is of type any.
func (n *Inferrer) Type(column int) (name string, misfits int64) {
	if column >= len(n.columns) || n.columns[column].cells == 0 {
		return "any", 0
	}
	c := &n.columns[column]
	all := c.cells + c.empty
	for i, fits := range c.fits {
		if fits > 0 && (fits+c.empty)*shareOf >= all*share {
			return inferredNames()[i], c.cells - fits
		}
	}
	return "string", 0
}

// Schema is the Table Schema of a table with these labels; nil means that it has
// none. A blank label gives the name field and its place, from 1, and one that was
// used before gets a number (a, a2, a3). Columns beyond the labels are left out.
func (n *Inferrer) Schema(labels []string) map[string]any {
	names := FieldNames(labels)
	if labels == nil {
		names = FieldNames(make([]string, len(n.columns)))
	}
	fields := make([]any, len(names))
	for i, name := range names {
		fieldType, _ := n.Type(i)
		fields[i] = map[string]any{"name": name, "type": fieldType, "format": "default"}
	}
	return map[string]any{"fields": fields, "missingValues": []any{""}}
}

// FieldNames makes names of labels, all different: a blank label gives field and its
// place, one that was used before gets a number (a, a2, a3).
func FieldNames(labels []string) []string {
	names := make([]string, len(labels))
	used := make(map[string]bool, len(labels))
	for _, label := range labels {
		used[label] = true
	}
	seen := make(map[string]int, len(labels))
	for i, label := range labels {
		if label == "" {
			label = "field" + strconv.Itoa(i+1)
			names[i] = label
			for k := 2; used[names[i]]; k++ {
				names[i] = label + strconv.Itoa(k)
			}
			used[names[i]] = true
			continue
		}
		seen[label]++
		names[i] = label
		for seen[label] > 1 {
			names[i] = label + strconv.Itoa(seen[label])
			if !used[names[i]] {
				used[names[i]] = true
				break
			}
			seen[label]++
		}
	}
	return names
}

// typesOf gives the types that a cell satisfies.
func typesOf(kind stream.Kind, cell []byte) typeSet {
	switch kind {
	case stream.Integer:
		return isAnInteger | isANumber
	case stream.Number:
		return isANumber
	case stream.Boolean:
		return isABoolean
	case stream.Date:
		return isADate
	case stream.Time:
		if bytes.IndexByte(cell, '.') >= 0 {
			return 0 // the default format of a time has no fraction of a second
		}
		return isATime
	case stream.Datetime:
		return isADatetime
	case stream.JSON:
		return jsonTypes(cell)
	default: // of the others there is nothing to say
	}
	return textTypes(cell)
}

// textTypes gives the types that a text satisfies. What it begins with and how long
// it is rule out nearly all types before one is tried.
func textTypes(cell []byte) typeSet {
	switch c := cell[0]; {
	case isDigit(c), c == '-', c == '+', c == '.':
	case c == 'P':
		if isDuration(cell) {
			return isADuration
		}
		return 0
	case c <= ' ':
		return spacedTypes(cell)
	case c == '{', c == '[':
		return jsonTypes(cell)
	case c == 't', c == 'T', c == 'f', c == 'F', c == 'n', c == 'N', c == 'i', c == 'I':
		return wordTypes(cell)
	default:
		return 0
	}
	var set typeSet
	var m moment
	switch last := cell[len(cell)-1]; {
	case isDigit(last), last == '.', last == 'Z':
	case last <= ' ':
		return spacedTypes(cell)
	case last == 'S', last == 'Y', last == 'M', last == 'D', last == 'H':
		if cell[0] == '-' && isDuration(cell) {
			return isADuration
		}
		return 0
	case last == 'F', last == 'f', last == 'N', last == 'n':
		return wordTypes(cell)
	default:
		return 0
	}
	switch len(cell) {
	case 1:
		if isDigit(cell[0]) && cell[0] <= '1' {
			set |= isABoolean
		}
	case 4:
		if isYear(cell) {
			set |= isAYear
		}
	case 7:
		if isYearMonth(cell) {
			return isAYearMonth
		}
	case 8:
		if m.clock(cell) {
			return isATime
		}
	case 10:
		if m.date(cell) {
			return isADate
		}
	}
	if len(cell) >= 19 && cell[4] == '-' && cell[10] == 'T' && m.datetime(cell) {
		return isADatetime
	}
	return set | numberTypes(cell) | geopoint(cell)
}

func numberTypes(cell []byte) typeSet {
	switch {
	case isInteger(cell):
		return isAnInteger | isANumber
	case isNumber(cell):
		return isANumber
	}
	return 0
}

func geopoint(cell []byte) typeSet {
	if bytes.IndexByte(cell, ',') < 0 {
		return 0
	}
	if _, _, ok := splitGeopoint(cell); ok {
		return isAGeopoint
	}
	return 0
}

// spacedTypes is for texts with white space at an end: numbers, points and JSON
// may have some.
func spacedTypes(cell []byte) typeSet {
	if text := bytes.Trim(cell, " \t\r\n"); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		return jsonTypes(text)
	}
	return numberTypes(trimASCII(cell)) | geopoint(cell)
}

// wordTypes is for true and false, NaN and INF.
func wordTypes(cell []byte) typeSet {
	switch string(cell) {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return isABoolean
	}
	if len(cell) <= len("-INF") && isSpecial(cell) {
		return isANumber
	}
	return 0
}

// jsonTypes is for texts that begin with a bracket, maybe behind blanks.
func jsonTypes(cell []byte) typeSet {
	text := bytes.Trim(cell, " \t\r\n")
	if len(text) == 0 || !json.Valid(text) {
		return 0
	}
	switch text[0] {
	case '[':
		return isAnArray
	case '{':
		set := isAnObject
		// Every GeoJSON object says its type; a key may be written with escapes.
		if bytes.Contains(text, []byte(`"type"`)) || bytes.IndexByte(text, '\\') >= 0 {
			if v, err := decode(text); err == nil && isGeoJSON(v) {
				set |= isAGeoJSON
			}
		}
		return set
	}
	return 0
}

// Misfits says, a line a column, how many cells are not of the type that was inferred.
func (n *Inferrer) Misfits(labels []string) []string {
	var lines []string
	for i := range n.columns {
		name, misfits := n.Type(i)
		if misfits == 0 {
			continue
		}
		label := "column " + strconv.Itoa(i+1)
		if i < len(labels) && labels[i] != "" {
			label += fmt.Sprintf(" (%.100s)", strings.ToValidUTF8(labels[i], ""))
		}
		lines = append(lines, fmt.Sprintf("%s: %d of %d values are not of type %s", label, misfits, n.columns[i].cells, name))
	}
	return lines
}
