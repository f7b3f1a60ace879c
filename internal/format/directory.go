package format

import "io"

// Directory bounds what is read of a ZIP file while its directory is: who reads an
// archive keeps an entry for each file in it, however many a hostile one lists.
type Directory struct {
	r    io.ReaderAt
	left int64
	read bool
}

// NewDirectory lets a directory of at most so many bytes be read from r.
func NewDirectory(r io.ReaderAt, most int64) *Directory { return &Directory{r: r, left: most} }

// ReadAt reads from the file, and fails beyond the bound.
func (d *Directory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 { // a directory may say anything
		return 0, io.ErrUnexpectedEOF
	}
	if !d.read {
		if d.left -= int64(len(p)); d.left < 0 {
			return 0, io.ErrUnexpectedEOF
		}
	}
	return d.r.ReadAt(p, off)
}

// TooLong reports whether the bound was met.
func (d *Directory) TooLong() bool { return d.left < 0 }

// Done lifts the bound: the directory was read, and the files follow.
func (d *Directory) Done() { d.read = true }
