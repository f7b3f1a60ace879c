package parquet

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/format"
)

// physical is how a column's values lie in the file.
type physical uint8

// The physical types, by their numbers in the format.
const (
	physBoolean physical = iota
	physInt32
	physInt64
	physInt96
	physFloat
	physDouble
	physBytes
	physFixed
)

// logical is what a column's values mean.
type logical uint8

const (
	logNone logical = iota
	logString
	logMap
	logList
	logEnum
	logDecimal
	logDate
	logTime
	logTimestamp
	logInterval
	logInteger // with bits and sign
	logNull
	logJSON
	logBSON
	logUUID
	logFloat16
	logVariant
	logGeometry
	logGeography
)

// The repetitions of a node.
const (
	required = 0
	optional = 1
	repeated = 2
)

// node is a column or a group of columns.
type node struct {
	name       string
	repetition int64
	leaf       bool
	children   []*node

	physical  physical
	length    int // of a fixed value
	logical   logical
	converted int64 // -1: none
	scale     int
	precision int
	unsigned  bool
	adjusted  bool
	unit      int // digits of the fraction of a second: 3, 6 or 9

	// Levels at which the node has a value (Dremel).
	maxDef, maxRep int
	column         int // of a leaf: which one of the row group
	first          int // of a group: its first leaf
}

// Limits of the metadata.
const (
	maxFooter    = 32 << 20
	maxDepth     = 32 // of nested columns
	maxLeaves    = format.MaxColumns
	maxPrecision = 1000
)

func broken(form string, args ...any) error {
	return &format.Error{Code: format.CodeSource, Message: "the Parquet file is damaged: " + fmt.Sprintf(form, args...)}
}

func unsupported(form string, args ...any) error {
	return &format.Error{Code: format.CodeFormat, Message: fmt.Sprintf(form, args...)}
}

// meta is the footer of a file. Row groups are read from it when their turn comes.
type meta struct {
	buf    []byte
	root   *node
	leaves []*node
	groups []int // where each row group begins in buf
	rows   int64
}

func parseMeta(buf []byte) (*meta, error) {
	m := &meta{buf: buf}
	t := &thriftReader{buf: buf}
	var elements []element
	encrypted := false
	t.fields(thriftStruct, func(id int16, kind byte) {
		switch id {
		case 2:
			t.list(kind, func(kind byte) bool {
				elements = append(elements, readElement(t, kind))
				return len(elements) <= 4*maxLeaves
			})
		case 3:
			m.rows = t.integer(kind)
		case 4:
			t.list(kind, func(kind byte) bool {
				m.groups = append(m.groups, t.pos)
				t.skip(kind)
				return true
			})
		case 8:
			encrypted = true
			t.skip(kind)
		default:
			t.skip(kind)
		}
	})
	switch {
	case encrypted:
		return nil, unsupported("the Parquet file is encrypted; publish it without encryption")
	case len(elements) > 4*maxLeaves:
		return nil, unsupported("the Parquet file has more than %d columns", maxLeaves)
	case t.failed:
		return nil, broken("its metadata cannot be read")
	case len(elements) == 0 || m.rows < 0:
		return nil, broken("its metadata has no schema")
	}
	b := treeBuilder{elements: elements, meta: m}
	var err error
	if m.root, err = b.build(0, 0, 0); err != nil {
		return nil, err
	}
	if b.at != len(elements) || m.root.leaf {
		return nil, broken("its schema is not one tree")
	}
	return m, nil
}

// element is a node as the file lists it.
type element struct {
	node
	hasType     bool
	numChildren int64
}

func readElement(t *thriftReader, kind byte) element {
	e := element{node: node{converted: -1}}
	decimal := func(id int16, kind byte) {
		switch id {
		case 1:
			e.scale = int(t.integer(kind))
		case 2:
			e.precision = int(t.integer(kind))
		default:
			t.skip(kind)
		}
	}
	moment := func(id int16, kind byte) {
		switch id {
		case 1:
			e.adjusted = t.boolean(kind)
		case 2:
			t.fields(kind, func(id int16, kind byte) {
				if id >= 1 && id <= 3 {
					e.unit = 3 * int(id)
				}
				t.skip(kind)
			})
		default:
			t.skip(kind)
		}
	}
	t.fields(kind, func(id int16, kind byte) {
		switch id {
		case 1:
			e.hasType = true
			v := t.integer(kind)
			if v < 0 || v > int64(physFixed) {
				t.fail()
			}
			e.physical = physical(v)
		case 2:
			e.length = int(t.integer(kind))
		case 3:
			e.repetition = t.integer(kind)
		case 4:
			e.name = string(t.binary(kind))
		case 5:
			e.numChildren = t.integer(kind)
		case 6:
			e.converted = t.integer(kind)
		case 7:
			e.scale = int(t.integer(kind))
		case 8:
			e.precision = int(t.integer(kind))
		case 10:
			t.fields(kind, func(id int16, kind byte) {
				if id < 1 || id > int16(logGeography) {
					t.skip(kind)
					return
				}
				e.logical = logical(id)
				switch e.logical {
				case logDecimal:
					t.fields(kind, decimal)
				case logTime, logTimestamp:
					t.fields(kind, moment)
				case logInteger:
					t.fields(kind, func(id int16, kind byte) {
						if id == 2 {
							e.unsigned = !t.boolean(kind)
							return
						}
						t.skip(kind)
					})
				default:
					t.skip(kind)
				}
			})
		default:
			t.skip(kind)
		}
	})
	return e
}

// legacy gives an element that has a converted type alone its logical type.
func (e *element) legacy() {
	if e.logical != logNone {
		return
	}
	switch e.converted {
	case 0:
		e.logical = logString
	case 1, 2:
		e.logical = logMap
	case 3:
		e.logical = logList
	case 4:
		e.logical = logEnum
	case 5:
		e.logical = logDecimal
	case 6:
		e.logical = logDate
	case 7, 8:
		e.logical, e.unit = logTime, 3*int(e.converted-6)
	case 9, 10: // the format counts these from the epoch in UTC
		e.logical, e.unit, e.adjusted = logTimestamp, 3*int(e.converted-8), true
	case 11, 12, 13, 14:
		e.logical, e.unsigned = logInteger, true
	case 15, 16, 17, 18:
		e.logical = logInteger
	case 19:
		e.logical = logJSON
	case 20:
		e.logical = logBSON
	case 21:
		e.logical = logInterval
	}
}

// treeBuilder makes the tree from the list of nodes, which stand depth first.
type treeBuilder struct {
	elements []element
	at       int
	meta     *meta
}

func (b *treeBuilder) build(depth, def, rep int) (*node, error) {
	if b.at >= len(b.elements) {
		return nil, broken("its schema ends early")
	}
	if depth > maxDepth {
		return nil, unsupported("the Parquet file nests columns more than %d deep", maxDepth)
	}
	e := &b.elements[b.at]
	b.at++
	e.legacy()
	n := &e.node
	if !utf8.ValidString(n.name) {
		return nil, &format.Error{Code: format.CodeEncoding, Message: fmt.Sprintf("the column name %q is not UTF-8", n.name)}
	}
	if depth > 0 {
		switch n.repetition {
		case required:
		case optional:
			def++
		case repeated:
			def++
			rep++
		default:
			return nil, broken("column %q has the repetition %d", n.name, n.repetition)
		}
	}
	n.maxDef, n.maxRep = def, rep
	n.first = len(b.meta.leaves)
	if e.hasType && e.numChildren == 0 {
		n.leaf, n.column = true, len(b.meta.leaves)
		if n.column >= maxLeaves {
			return nil, unsupported("the Parquet file has more than %d columns", maxLeaves)
		}
		b.meta.leaves = append(b.meta.leaves, n)
		return n, n.check()
	}
	if n.logical == logVariant {
		return nil, unsupported("column %q is a variant, which is not supported; write it as JSON", n.name)
	}
	if e.numChildren < 0 || e.numChildren > int64(len(b.elements)-b.at) || e.numChildren == 0 && depth > 0 {
		return nil, broken("column %q has %d parts", n.name, e.numChildren)
	}
	for range e.numChildren {
		child, err := b.build(depth+1, def, rep)
		if err != nil {
			return nil, err
		}
		n.children = append(n.children, child)
	}
	return n, nil
}

// check holds a leaf's logical type against its physical one.
func (n *node) check() error {
	wrong := func() error { return broken("column %q has a type that does not fit its values", n.name) }
	if n.physical == physFixed && (n.length <= 0 || n.length > format.MaxCell) {
		return broken("column %q has values of %d bytes", n.name, n.length)
	}
	is := func(kinds ...physical) bool { return slices.Contains(kinds, n.physical) }
	ok := true
	switch n.logical {
	case logString, logEnum, logJSON:
		ok = is(physBytes, physFixed)
	case logBSON:
		return unsupported("column %q is BSON, which is not supported; write it as JSON", n.name)
	case logVariant, logMap, logList:
		n.logical = logNone
	case logDecimal:
		ok = is(physInt32, physInt64, physBytes, physFixed) && n.scale >= 0 && n.scale <= maxPrecision && n.precision >= 0 && n.precision <= maxPrecision
	case logDate:
		ok = is(physInt32)
	case logTime:
		ok = is(physInt32) && n.unit == 3 || is(physInt64) && n.unit > 3
	case logTimestamp:
		ok = is(physInt64) && n.unit > 0
	case logInteger:
		ok = is(physInt32, physInt64)
	case logUUID:
		ok = is(physFixed) && n.length == 16
	case logFloat16:
		ok = is(physFixed) && n.length == 2
	case logInterval:
		ok = is(physFixed) && n.length == 12
	default: // of the others there is nothing to say
	}
	if !ok {
		return wrong()
	}
	return nil
}

// chunk is a column of a row group in the file.
type chunk struct {
	codec  int64
	values int64 // with nulls
	start  int64
	size   int64
}

// group reads the columns of a row group.
func (m *meta) group(i int, fileSize int64) (chunks []chunk, rows int64, err error) {
	t := &thriftReader{buf: m.buf, pos: m.groups[i]}
	elsewhere, encrypted := false, false
	t.fields(thriftStruct, func(id int16, kind byte) {
		switch id {
		case 1:
			t.list(kind, func(kind byte) bool {
				c := chunk{codec: -1}
				data, dictionary, kindOf := int64(-1), int64(0), int64(-1)
				t.fields(kind, func(id int16, kind byte) {
					switch id {
					case 1:
						elsewhere = elsewhere || len(t.binary(kind)) > 0
					case 3:
						t.fields(kind, func(id int16, kind byte) {
							switch id {
							case 1:
								kindOf = t.integer(kind)
							case 4:
								c.codec = t.integer(kind)
							case 5:
								c.values = t.integer(kind)
							case 7:
								c.size = t.integer(kind)
							case 9:
								data = t.integer(kind)
							case 11:
								dictionary = t.integer(kind)
							default:
								t.skip(kind)
							}
						})
					case 8:
						encrypted = true
						t.skip(kind)
					default:
						t.skip(kind)
					}
				})
				c.start = data
				if dictionary > 0 && dictionary < data {
					c.start = dictionary
				}
				if n := len(chunks); n < len(m.leaves) && kindOf != int64(m.leaves[n].physical) {
					t.fail()
				}
				if c.values == 0 {
					// Of no values some writers say that they lie where nothing is.
				} else if c.values < 0 || c.size < 0 || c.start < 0 || c.start > fileSize || c.size > fileSize-c.start {
					t.fail()
				}
				chunks = append(chunks, c)
				return len(chunks) <= len(m.leaves)
			})
		case 3:
			rows = t.integer(kind)
		default:
			t.skip(kind)
		}
	})
	switch {
	case encrypted:
		return nil, 0, unsupported("the Parquet file is encrypted; publish it without encryption")
	case elsewhere:
		return nil, 0, unsupported("the Parquet file has columns in other files")
	case t.failed || rows < 0 || len(chunks) != len(m.leaves):
		return nil, 0, broken("the metadata of row group %d cannot be read", i+1)
	}
	return chunks, rows, nil
}
