package tableschema

import (
	"strconv"

	"github.com/datahq/specstore/internal/stream"
)

// typeSet is a set of the types that are inferred, a bit each, in the order in which
// they are tried: that of frictionless v5, in which a type comes before those that take
// its cells too. Behind them come the forms of numbers and of dates, a bit each.
type typeSet uint64

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

// writtenNumber is a way of writing numbers beside the default one.
type writtenNumber struct{ decimal, group string }

// numberForms are those that are inferred; a space may be one that does not break.
var numberForms = [...]writtenNumber{
	{",", ""},
	{".", ","},
	{",", "."},
	{".", " "},
	{",", " "},
	{".", "\u00a0"},
	{",", "\u00a0"},
	{".", "\u202f"},
	{",", "\u202f"},
	{".", "\u2009"},
	{",", "\u2009"},
	{".", "'"},
	{",", "'"},
	{".", "’"},
	{",", "’"},
}

// dateForm is a way of writing dates beside the default one. Two with the same rival
// take many of the same texts for other days.
type dateForm struct {
	pattern string
	first   byte // what stands first: d for a digit, a for a letter
	part    byte // what stands between the parts
	rival   int  // of the form that it is mistaken for; -1: none
}

var dateForms = [...]dateForm{
	{"%d.%m.%Y", 'd', '.', -1},
	{"%d.%m.%y", 'd', '.', -1},
	{"%Y.%m.%d", 'd', '.', -1},
	{"%d/%m/%Y", 'd', '/', 4},
	{"%m/%d/%Y", 'd', '/', 3},
	{"%d/%m/%y", 'd', '/', 6},
	{"%m/%d/%y", 'd', '/', 5},
	{"%Y/%m/%d", 'd', '/', -1},
	{"%d-%m-%Y", 'd', '-', 9},
	{"%m-%d-%Y", 'd', '-', 8},
	{"%d-%b-%Y", 'd', '-', -1},
	{"%d-%b-%y", 'd', '-', -1},
	{"%d %b %Y", 'd', ' ', -1},
	{"%d %B %Y", 'd', ' ', -1},
	{"%b %d %Y", 'a', ' ', -1},
	{"%B %d %Y", 'a', ' ', -1},
	{"%b %d, %Y", 'a', ' ', -1},
	{"%B %d, %Y", 'a', ' ', -1},
}

// The places of the forms in a typeSet.
const (
	firstNumberForm = inferredTypes
	firstDateForm   = firstNumberForm + len(numberForms)
	endOfForms      = firstDateForm + len(dateForms)

	anyType       typeSet = 1<<endOfForms - 1
	anyNumberForm typeSet = 1<<firstDateForm - 1<<firstNumberForm
	anyDateForm   typeSet = 1<<endOfForms - 1<<firstDateForm
	numeric               = isAnInteger | isANumber | anyNumberForm
)

func numberBit(i int) typeSet { return 1 << (firstNumberForm + i) }

func dateBit(i int) typeSet { return 1 << (firstDateForm + i) }

// Inferrer finds the types of columns from all their cells. A column gets the first
// type, in the order of frictionless v5 (yearmonth, geopoint, duration, geojson,
// object, array, datetime, time, date, integer, number, boolean, year), that takes every
// cell which is no missing value; else it is a string, and a column without any text is
// of type any. So a schema that is inferred takes the cells that it was inferred from:
//
//   - numbers may be written with a decimal comma and with characters between groups of
//     three digits, dates in the usual forms where no other form takes them all for other
//     days, booleans as words such as yes and no;
//   - marks such as NA among cells of another type are missing values;
//   - digits with a leading zero are no number, nor are telephone numbers (a plus and seven
//     digits or more); nor are the cells of a column in which two texts are one number
//     (1.1 and 1.10);
//   - a geopoint needs one cell with a decimal point or a blank behind the comma.
//
// It keeps some counts a column and a few texts. Its zero value is ready.
type Inferrer struct {
	// Delimiter is what stands between the cells of a text file. Behind a semicolon a
	// comma in numbers is likely a decimal one.
	Delimiter string
	// Decimal is the decimal character, where it is known; empty: it is found out.
	Decimal string

	columns []columnCounts
	kept    int // numbers with a fraction, of all columns
}

// columnCounts is what is known of a column.
type columnCounts struct {
	values  int64 // cells that are no missing values, marks aside
	empty   int64
	marks   []counted // texts that mark missing values if the column has another type
	marked  int64
	alive   typeSet // types and forms that take every value
	broken  *broken // what took the last of them, or a form of many
	words   []counted
	wordy   bool             // there are more words than are kept
	pointed bool             // a geopoint has a decimal point or a blank
	points  bool             // a number has a point
	moments bool             // a cell is a datetime in its file
	why     string           // what a cell is that looks like a number and is none
	numbers map[uint64]uint8 // hashes of numbers with a fraction to its length
}

type counted struct {
	text string
	n    int64
}

// broken is the cell by which a column lost its type.
type broken struct {
	row  int64 // 0: not known
	cell string
	was  typeSet
}

// Limits of what a column keeps.
const (
	keptMarks   = 8
	keptWords   = 6
	longestWord = 12
	keptNumbers = 1 << 16 // with a fraction, of a column
	allNumbers  = 1 << 18 // of all columns together
)

// Add notes a cell of a column, from 0. Text is looked at for what it may be; a cell
// that has a kind in its file is of that kind. Columns beyond [MaxFields] are not
// looked at.
func (n *Inferrer) Add(column int, kind stream.Kind, cell []byte) { n.add(column, 0, kind, cell) }

func (n *Inferrer) add(column int, row int64, kind stream.Kind, cell []byte) {
	if column >= len(n.columns) {
		if column >= MaxFields {
			return
		}
		for len(n.columns) <= column {
			n.columns = append(n.columns, columnCounts{alive: anyType})
		}
	}
	c := &n.columns[column]
	if len(cell) == 0 || kind == stream.Null {
		c.empty++
		return
	}
	if kind == stream.Text {
		if c.mark(cell) {
			return
		}
		c.word(cell)
	} else {
		c.wordy = true // words are of texts alone
	}
	c.values++
	if c.alive == 0 {
		return
	}
	was := c.alive
	if c.alive &= n.readings(c, kind, cell); c.alive == 0 {
		c.broken = &broken{row, shown(cell), was}
		n.kept -= len(c.numbers)
		c.numbers = nil
	}
}

// AddBatch notes all rows of a batch.
func (n *Inferrer) AddBatch(b *stream.Batch) {
	for r := range b.Rows() {
		for c := range b.Width(r) {
			n.add(c, b.Number(r), b.Kind(r, c), b.Cell(r, c))
		}
	}
}

// Columns is the number of columns of which cells were seen.
func (n *Inferrer) Columns() int { return len(n.columns) }

// isMark reports whether a text stands for a missing value where it is among values of
// another kind. Statistical offices have signs for kinds of those.
func isMark(cell []byte) bool {
	const longest = 16
	if cell[0] <= ' ' || cell[len(cell)-1] <= ' ' {
		if cell = trimASCII(cell); len(cell) == 0 {
			return true
		}
	}
	if c := cell[0]; len(cell) > longest || isDigit(c) || c == '+' || c == 'P' || c == '{' || c == '[' {
		return false
	}
	var lower [longest]byte
	for i, c := range cell {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	switch string(lower[:len(cell)]) {
	case "na", "n/a", "n.a.", "n.a", "n. a.", "#n/a", "#na", "<na>", "(na)", "null", "(null)", "none", "nil", "nd", "n.d.", "missing", "unknown",
		"-", "--", "---", "–", "—", "−", ".", "..", "...", "…", "·", "•", "*", "**", "?", "/", "//", ":", "x", "u", "c", "s",
		"k.a.", "k. a.", "k.a", "ka", "keine angabe", "n.v.", "nv", "s.o.", "b.d.", "n.e.",
		"#ref!", "#value!", "#div/0!", "#num!", "#name?", "#null!":
		return true
	}
	return false
}

// mark notes a text that may stand for a missing value.
func (c *columnCounts) mark(cell []byte) bool {
	if !isMark(cell) {
		return false
	}
	for i := range c.marks {
		if c.marks[i].text == string(cell) {
			c.marks[i].n++
			c.marked++
			return true
		}
	}
	if len(c.marks) == keptMarks {
		return false
	}
	c.marks = append(c.marks, counted{string(cell), 1})
	c.marked++
	return true
}

// word notes a text that may be a word for true or false.
func (c *columnCounts) word(cell []byte) {
	if c.wordy {
		return
	}
	for i := range c.words {
		if c.words[i].text == string(cell) {
			c.words[i].n++
			return
		}
	}
	if c.wordy = len(cell) > longestWord || len(c.words) == keptWords; !c.wordy {
		c.words = append(c.words, counted{string(cell), 1})
	}
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
