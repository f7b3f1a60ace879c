package tables

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/datahq/specstore/internal/format"
)

// withHeader puts on a dialect what the reader options `skip_rows` and `headers` say.
// The latter is the number of the row that holds the labels, counted from the first
// that is not skipped; the first and the last of several; 0 or false for none; or the
// labels themselves, which then do not stand in the file.
func withHeader(d format.Dialect, resource map[string]any) (format.Dialect, []string, error) {
	skip, err := wholeNumber("skip_rows", resource["skip_rows"])
	if err != nil {
		return d, nil, err
	}
	d.SkipRows += skip
	rows, labels, err := headerOption(resource["headers"])
	switch {
	case err != nil:
		return d, nil, err
	case rows != nil:
		d.HeaderRows = nil
		for _, row := range rows {
			d.HeaderRows = append(d.HeaderRows, row+skip)
		}
		d.Header = d.Header && len(rows) > 0
	case labels != nil:
		d.Header = false
	}
	return d, labels, nil
}

// headerOption reads the option `headers`: the rows, none where the list is empty and
// as the dialect says where it is nil, or the labels.
func headerOption(v any) (rows []int, labels []string, err error) {
	const most = 1000
	wrong := &format.Error{Code: CodeDialect, Message: "headers: must be the number of the header row, the first and the last of several, or a list of labels"}
	var first, last int
	switch v := v.(type) {
	case nil:
		return nil, nil, nil
	case bool:
		if !v {
			rows = []int{}
		}
		return rows, nil, nil
	case []any:
		if labels := texts(v); labels != nil {
			return nil, labels, nil
		}
		if len(v) != 2 {
			return nil, nil, wrong
		}
		if first, err = wholeNumber("headers", v[0]); err == nil {
			last, err = wholeNumber("headers", v[1])
		}
		if first < 1 {
			return nil, nil, wrong
		}
	default:
		first, err = wholeNumber("headers", v)
		last = first
	}
	if err != nil || last < first || last > most {
		return nil, nil, wrong
	}
	rows = []int{}
	for row := max(first, 1); row <= last; row++ {
		rows = append(rows, row)
	}
	return rows, nil, nil
}

// texts are the labels of a list of nothing but texts; else nil.
func texts(list []any) []string {
	if len(list) > format.MaxColumns {
		return nil
	}
	var out []string
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return nil
		}
		out = append(out, strings.TrimSpace(text))
	}
	return out
}

func wholeNumber(key string, v any) (int, error) {
	if v == nil {
		return 0, nil
	}
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil || n < 0 {
		return 0, &format.Error{Code: CodeDialect, Message: key + " must be a whole number, from 0"}
	}
	return n, nil
}

// withLabels gives a reader the labels that its resource has for it.
func withLabels(r format.Reader, labels []string) format.Reader {
	if labels == nil {
		return r
	}
	return &labelled{r, labels}
}

// labelled is a table whose labels do not stand in its file.
type labelled struct {
	format.Reader
	labels []string
}

// Header gives the labels. A file without any row gives io.EOF all the same.
func (l *labelled) Header() ([]string, error) {
	if _, err := l.Reader.Header(); err != nil {
		return nil, err
	}
	return append([]string{}, l.labels...), nil
}
