package xlsx

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of what a workbook declares, larger than those that Excel has.
const (
	maxSheets  = 10000
	maxStyles  = 1 << 16
	maxFormats = 1 << 14
	maxCode    = 1024 // bytes of a number format
)

// workbook is what must be known before a sheet can be read.
type workbook struct {
	*container
	sheets   []sheet
	date1904 bool
	styles   []numberFormat // by the style's number
	strings  string         // the part with the shared strings; empty: none
}

// sheet is one with cells; those of charts alone are none.
type sheet struct{ name, part string }

// Sheets gives the names of a workbook's sheets in their order. Sheets that hold a
// chart and no cells are left out. Its error is a [format.Error] where the file is
// to blame.
func Sheets(ctx context.Context, path string) ([]string, error) {
	w, err := openWorkbook(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.close() }()
	return w.names(), nil
}

func (w *workbook) names() []string {
	names := make([]string, len(w.sheets))
	for i, s := range w.sheets {
		names[i] = s.name
	}
	return names
}

func openWorkbook(ctx context.Context, path string) (*workbook, error) {
	c, err := openContainer(ctx, path, (*container).isSpreadsheet)
	if err != nil {
		return nil, err
	}
	w := &workbook{container: c}
	if err := w.read(); err != nil {
		_ = c.close()
		return nil, err
	}
	return w, nil
}

func (w *workbook) read() error {
	roots, err := w.relations("")
	if err != nil {
		return err
	}
	main := "xl/workbook.xml"
	for _, id := range slices.Sorted(maps.Keys(roots)) {
		if r := roots[id]; r.kind == "officeDocument" {
			main = r.target
		}
	}
	if strings.HasSuffix(main, ".bin") {
		return formatError("the file is a binary workbook (XLSB), which cannot be read: save it as XLSX or CSV")
	}
	if !w.has(main) {
		return formatError("the file is a ZIP archive and no XLSX workbook")
	}
	links, err := w.relations(main)
	if err != nil {
		return err
	}
	isWorkbook := false
	err = w.small(main, func(x *xmlReader) error {
		switch string(x.name) {
		case "workbook":
			isWorkbook = isWorkbook || x.depth() == 1
		case "workbookPr":
			if x.depth() == 2 { // extensions have one of their own, without the epoch
				w.date1904 = isTrue(x.attr("date1904"))
			}
		case "sheet":
			link := links[string(x.attr("id"))]
			if link.kind != "worksheet" || x.depth() != 3 {
				return nil
			}
			if len(w.sheets) == maxSheets {
				return formatError("the workbook has more than %d sheets, the limit", maxSheets)
			}
			name := x.attr("name")
			if len(name) > maxCode || !utf8.Valid(name) {
				return formatError("the name of sheet %d is no text, or too long", len(w.sheets)+1)
			}
			w.sheets = append(w.sheets, sheet{string(name), link.target})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !isWorkbook {
		return formatError("the file is an Office document and no workbook")
	}
	var styles string
	for _, id := range slices.Sorted(maps.Keys(links)) {
		switch r := links[id]; r.kind {
		case "styles":
			styles = r.target
		case "sharedStrings":
			w.strings = r.target
		}
	}
	if styles == "" || !w.has(styles) {
		return nil
	}
	return w.readStyles(styles)
}

// isTrue reads an xsd:boolean.
func isTrue(v []byte) bool { return string(v) == "1" || string(v) == "true" || string(v) == "on" }

// readStyles reads what the numbers of each style are.
func (w *workbook) readStyles(part string) error {
	codes := map[int]string{}
	inCells := false
	return w.small(part, func(x *xmlReader) error {
		switch string(x.name) {
		case "numFmt":
			id, err := strconv.Atoi(string(x.attr("numFmtId")))
			code := x.attr("formatCode")
			if err != nil || x.depth() != 3 {
				return nil //nolint:nilerr // a format without a number is one that no cell names
			}
			if len(codes) == maxFormats || len(code) > maxCode {
				return formatError("the workbook has more than %d number formats, or one of more than %d bytes", maxFormats, maxCode)
			}
			codes[id] = string(code)
		case "xf":
			if !inCells {
				return nil
			}
			if len(w.styles) == maxStyles {
				return formatError("the workbook has more than %d cell styles, the limit", maxStyles)
			}
			id, _ := strconv.Atoi(string(x.attr("numFmtId"))) // none is General
			code, ok := codes[id]
			if !ok {
				code = builtin(id)
			}
			w.styles = append(w.styles, parseNumberFormat(code))
		default:
			if x.depth() == 2 {
				inCells = string(x.name) == "cellXfs"
			}
		}
		return nil
	})
}

// find finds a sheet: by name where there is one, else by number from 1, else the
// first.
func (w *workbook) find(name string, number int) (sheet, error) {
	if len(w.sheets) == 0 {
		return sheet{}, formatError("the workbook has no sheet with cells")
	}
	if name == "" && number == 0 {
		return w.sheets[0], nil
	}
	if name != "" {
		for _, s := range w.sheets {
			if s.name == name {
				return s, nil
			}
		}
		for _, s := range w.sheets {
			if strings.EqualFold(s.name, name) { // as Excel takes them
				return s, nil
			}
		}
		n, err := strconv.Atoi(name)
		if err != nil {
			return sheet{}, formatError("the workbook has no sheet %q; its sheets are %s", cut(name), w.list())
		}
		number = n
	}
	if number < 1 || number > len(w.sheets) {
		return sheet{}, formatError("the workbook has no sheet number %d; its sheets are %s", number, w.list())
	}
	return w.sheets[number-1], nil
}

// list names the sheets in a message.
func (w *workbook) list() string {
	const most = 50
	var quoted []string
	for _, name := range w.names() {
		if len(quoted) == most {
			quoted = append(quoted, fmt.Sprintf("and %d more", len(w.sheets)-most))
			break
		}
		quoted = append(quoted, strconv.Quote(cut(name)))
	}
	return strings.Join(quoted, ", ")
}
