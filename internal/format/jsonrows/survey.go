package jsonrows

import "io"

// Survey reads a file to its end and returns the keys of all rows that are objects, in the
// order in which they appear, a feature's geometry last; nil where rows are arrays. Where
// the file cannot be read on the keys before that are given: its rows are met with the
// same error.
func Survey(r io.Reader, o Options) ([]string, error) {
	o.Columns, o.ItemKeys = nil, nil
	rd, err := NewReader(r, o)
	if err != nil {
		return nil, err
	}
	b := rd.o.Pool.Get()
	defer b.Release()
	if _, failed := rd.header(); failed != nil || rd.arrays {
		return nil, nil // reading the rows says the same
	}
	if rd.first != nil {
		rd.first.Release()
		rd.first = nil
	}
	for {
		more, err := rd.more()
		if err != nil || !more {
			break
		}
		b.Reset()
		if k := rd.dec.PeekKind(); k != '{' || rd.object(b, true) != nil {
			break
		}
	}
	keys := append([]string{}, rd.labels...)
	if o.Features {
		keys = append(keys, geometry)
	}
	return keys, nil
}

// Found is what an object at the root of a file holds.
type Found struct {
	Object   bool     // the root is an object
	Features bool     // it is a feature collection of GeoJSON
	Arrays   []string // its keys whose values are arrays of objects, the first of them
}

// Find looks for the rows in a file of which nothing says where they are. An error of the
// file is left to who reads the rows.
func Find(r io.Reader, o Options) (Found, error) {
	o.Features, o.Property, o.Lines = false, "", false
	rd, err := NewReader(r, o)
	if err != nil {
		return Found{}, err
	}
	var found Found
	rd.move()
	if rd.dec.PeekKind() != '{' {
		return found, nil
	}
	_ = rd.token() // which is that
	found.Object = true
	isCollection := false
	for {
		rd.move()
		if k := rd.dec.PeekKind(); k == '}' || k == 0 {
			break
		}
		raw, err := rd.value()
		var name []byte
		if err == nil {
			name, err = unquote(nil, raw)
		}
		if err != nil {
			break
		}
		rd.move()
		switch kind := rd.dec.PeekKind(); {
		case kind == '[':
			depth := rd.dec.StackDepth()
			err = rd.token()
			rd.move()
			if err == nil && rd.dec.PeekKind() == '{' && len(found.Arrays) < maxNoted {
				found.Arrays = append(found.Arrays, string(name))
			}
			for err == nil && rd.dec.StackDepth() > depth && rd.dec.StackDepth() <= maxDepth {
				err = rd.token()
			}
		case kind == '"' && string(name) == "type":
			if raw, err = rd.value(); err == nil {
				isCollection = string(raw) == `"FeatureCollection"`
			}
		default:
			err = rd.skip()
		}
		if err != nil {
			break
		}
	}
	for _, key := range found.Arrays {
		found.Features = found.Features || isCollection && key == "features"
	}
	return found, nil
}
