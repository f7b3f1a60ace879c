package xlsx

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// sharedStrings are the texts that cells refer to by number. They lie in memory up
// to a budget; all of them go to two temporary files when there are more: the texts
// one after another, and where each ends.
type sharedStrings struct {
	text []byte
	ends []byte // 8 bytes a text, its end in text
	n    uint64

	texts, index *spillFile
}

const (
	stringBudget = 8 << 20 // bytes of text and of ends, each
	endBytes     = 8
	maxStrings   = 64 << 20
)

// readStrings reads the part with the shared strings (ECMA-376, 18.4.9).
func readStrings(r io.Reader, temp string, budget int) (*sharedStrings, error) {
	s := &sharedStrings{}
	x := newXMLReader(r)
	var item []byte
	for {
		kind, err := x.next()
		if err == io.EOF {
			return s, s.flush()
		}
		if err == nil && kind == startTag && x.depth() == 2 && string(x.name) == "si" {
			if item, err = readRichText(x, item[:0], maxCell); err == nil {
				err = s.add(item, temp, budget)
			}
		}
		if err != nil {
			s.close()
			return nil, err
		}
	}
}

// readRichText reads the text of the element whose start tag came last: its own, or
// that of its runs, without the hints how to read it aloud.
func readRichText(x *xmlReader, dst []byte, limit int) ([]byte, error) {
	depth := x.depth()
	inText := 0
	for {
		kind, err := x.next()
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return dst, err
		}
		switch {
		case kind == startTag && string(x.name) == "t":
			inText = x.depth()
		case kind == startTag && string(x.name) == "rPh":
			if err := x.skipElement(); err != nil {
				return dst, err
			}
		case kind == endTag && x.depth() < depth:
			if !utf8.Valid(dst) {
				return dst, xmlErrorf("is not in UTF-8")
			}
			return unescape(dst), nil
		case kind == endTag && x.depth() < inText:
			inText = 0
		case kind == charData && inText > 0:
			if len(dst)+len(x.text) > limit {
				return dst, xmlErrorf("has a text of more than %s, the limit", size(int64(limit)))
			}
			dst = append(dst, x.text...)
		}
	}
}

// add keeps a copy of a text.
func (s *sharedStrings) add(item []byte, temp string, budget int) error {
	if s.n++; s.n > maxStrings {
		return xmlErrorf("has more than %d texts, the limit", maxStrings)
	}
	if s.texts == nil {
		s.text = append(s.text, item...)
		s.ends = binary.LittleEndian.AppendUint64(s.ends, uint64(len(s.text)))
		if len(s.text) <= budget && len(s.ends) <= budget {
			return nil
		}
		var err error
		if s.texts, err = newSpillFile(temp, s.text); err != nil {
			return err
		}
		if s.index, err = newSpillFile(temp, s.ends); err != nil {
			return err
		}
		s.text, s.ends = nil, nil
		return nil
	}
	if err := s.texts.write(item); err != nil {
		return err
	}
	var end [endBytes]byte
	binary.LittleEndian.PutUint64(end[:], uint64(s.texts.size))
	return s.index.write(end[:])
}

// appendText appends text i. It is false where there is none.
func (s *sharedStrings) appendText(dst []byte, i uint64) ([]byte, bool, error) {
	if i >= s.n {
		return dst, false, nil
	}
	var ends [2 * endBytes]byte
	from := ends[endBytes:] // of the end; the first text begins at 0
	at := int64(i) * endBytes
	if i > 0 {
		from, at = ends[:], at-endBytes
	}
	if s.texts == nil {
		copy(from, s.ends[at:])
	} else if err := s.index.readAt(from, at); err != nil {
		return dst, false, err
	}
	start, end := binary.LittleEndian.Uint64(ends[:]), binary.LittleEndian.Uint64(ends[endBytes:])
	if s.texts == nil {
		return append(dst, s.text[start:end]...), true, nil
	}
	n := len(dst)
	dst = append(dst, make([]byte, end-start)...)
	return dst, true, s.texts.readAt(dst[n:], int64(start))
}

func (s *sharedStrings) flush() error {
	if s.texts == nil {
		return nil
	}
	if err := s.texts.flush(); err != nil {
		return err
	}
	return s.index.flush()
}

// close frees memory and disk. It may be called on nil.
func (s *sharedStrings) close() {
	if s == nil {
		return
	}
	s.texts.close()
	s.index.close()
}

// spillFile is a temporary file that is written once and then read at any place,
// through pages that are kept: neighbours are asked for together.
type spillFile struct {
	file  *os.File
	w     *bufio.Writer
	size  int64
	pages [pageCount]page
}

const (
	pageBytes = 16 << 10
	pageCount = 64
)

type page struct {
	number int64 // from 1; 0: empty
	bytes  []byte
}

func newSpillFile(dir string, begin []byte) (*spillFile, error) {
	f, err := os.CreateTemp(dir, "strings-") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("xlsx: %w", err)
	}
	os.Remove(f.Name()) // where the system allows it, nothing stays behind after a crash
	s := &spillFile{file: f, w: bufio.NewWriterSize(f, xmlBuffer)}
	return s, s.write(begin)
}

func (s *spillFile) write(b []byte) error {
	n, err := s.w.Write(b)
	s.size += int64(n)
	if err != nil {
		return fmt.Errorf("xlsx: %w", err)
	}
	return nil
}

func (s *spillFile) flush() error {
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("xlsx: %w", err)
	}
	s.w = nil
	return nil
}

// readAt fills p with the bytes from off, all of which were written.
func (s *spillFile) readAt(p []byte, off int64) error {
	for len(p) > 0 {
		number := off/pageBytes + 1
		g := &s.pages[number%pageCount]
		if g.number != number {
			if g.bytes == nil {
				g.bytes = make([]byte, pageBytes)
			}
			g.number = 0
			n, err := s.file.ReadAt(g.bytes[:pageBytes], (number-1)*pageBytes)
			if err != nil && err != io.EOF {
				return fmt.Errorf("xlsx: %w", err)
			}
			g.number, g.bytes = number, g.bytes[:n]
		}
		at := int(off % pageBytes)
		if at >= len(g.bytes) {
			return fmt.Errorf("xlsx: %w", io.ErrUnexpectedEOF)
		}
		n := copy(p, g.bytes[at:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (s *spillFile) close() {
	if s == nil || s.file == nil {
		return
	}
	s.file.Close()
	os.Remove(s.file.Name())
	s.file = nil
}
