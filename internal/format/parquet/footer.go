package parquet

// What a file that is written says of itself, in the structures of the format's
// parquet.thrift.

// pageHeader is the header of a page.
func (t *thriftWriter) pageHeader(kind int64, values int, encoding int64, unpacked, packed int) {
	t.reset()
	t.i32(1, kind)
	t.i32(2, int64(unpacked))
	t.i32(3, int64(packed))
	id := int16(5)
	if kind == pageDictionary {
		id = 7
	}
	t.begin(id)
	t.i32(1, int64(values))
	t.i32(2, encoding)
	if kind == pageData {
		t.i32(3, encodingRLE) // of the levels
		t.i32(4, encodingRLE)
	}
	t.close()
	t.close()
}

// chunkMetadata adds what the metadata say of a column of a group. Its pages begin at
// start, those of data at data.
func (w *fileWriter) chunkMetadata(c int, start, data int64, dictionary bool) {
	t, k, p := &w.groups, &w.chunk, &w.plans[c]
	t.open()
	t.i64(2, 0) // where the format once had a copy of the metadata
	t.begin(3)
	t.i32(1, int64(p.physical()))
	encodings := []int64{encodingPlain, encodingRLE}
	if dictionary {
		encodings = append(encodings, encodingDictionary)
	}
	t.list(2, thriftI32, len(encodings))
	for _, e := range encodings {
		t.varint(e)
	}
	t.list(3, thriftBinary, 1)
	t.text(w.names[c])
	t.i32(4, codecZSTD)
	t.i64(5, int64(w.group.Rows()))
	t.i64(6, k.unpacked)
	t.i64(7, w.offset-start)
	t.i64(9, data)
	if dictionary {
		t.i64(11, start)
	}
	t.begin(12)
	t.i64(3, k.nulls)
	if k.some && k.bounded {
		t.binary(5, k.max)
		t.binary(6, k.min)
	}
	t.close()
	t.close()
	t.close()
}

// footer is the metadata of the file.
func (w *fileWriter) footer() []byte {
	t := &thriftWriter{}
	t.reset()
	t.i32(1, 1)
	t.list(2, thriftStruct, len(w.plans)+1)
	t.open()
	t.binary(4, []byte("schema"))
	t.i32(5, int64(len(w.plans)))
	t.close()
	for c := range w.plans {
		w.plans[c].element(t, w.names[c])
	}
	t.i64(3, w.rows)
	t.list(4, thriftStruct, w.count)
	t.buf = append(t.buf, w.groups.buf...)
	t.binary(6, []byte(createdBy))
	t.list(7, thriftStruct, len(w.plans))
	for range w.plans { // the order of each column is that of its type
		t.open()
		t.begin(1)
		t.close()
		t.close()
	}
	t.close()
	return t.buf
}

// converted is the older name of a column's type; false where it has none.
func (p *plan) converted() (int64, bool) {
	switch p.form {
	case formString:
		return 0, true
	case formJSON:
		return 19, true
	case formDecimal:
		return 5, true
	case formDate:
		return 6, true
	case formInt32:
		return 17, true
	case formInt64:
		return 18, true
	case formTimestamp: // which is one of UTC
		return 10, p.adjusted && !p.nanos
	default:
	}
	return 0, false
}

// element is the entry of a column in the schema.
func (p *plan) element(t *thriftWriter, name string) {
	t.open()
	t.i32(1, int64(p.physical()))
	if p.physical() == physFixed {
		t.i32(2, int64(decimalBytes(p.precision)))
	}
	t.i32(3, optional)
	t.binary(4, []byte(name))
	if v, ok := p.converted(); ok {
		t.i32(6, v)
	}
	if p.form == formDecimal {
		t.i32(7, int64(p.scale))
		t.i32(8, int64(p.precision))
	}
	if l := p.logical(); l != logNone {
		t.begin(10)
		t.begin(int16(l))
		switch l {
		case logDecimal:
			t.i32(1, int64(p.scale))
			t.i32(2, int64(p.precision))
		case logInteger:
			t.int8(1, map[form]byte{formInt32: 32, formInt64: 64}[p.form])
			t.boolean(2, true)
		case logTime, logTimestamp:
			t.boolean(1, p.adjusted)
			t.begin(2)
			unit := int16(2) // microseconds
			if p.nanos {
				unit = 3
			}
			t.begin(unit)
			t.close()
			t.close()
		default: // has nothing to say
		}
		t.close()
		t.close()
	}
	t.close()
}

// logical is what the values of a column mean.
func (p *plan) logical() logical {
	switch p.form {
	case formString:
		return logString
	case formJSON:
		return logJSON
	case formDecimal:
		return logDecimal
	case formDate:
		return logDate
	case formTime:
		return logTime
	case formTimestamp:
		return logTimestamp
	case formInt32, formInt64:
		return logInteger
	default: // the type says it all
	}
	return logNone
}
