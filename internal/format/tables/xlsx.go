package tables

import (
	"fmt"
	"strconv"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/xlsx"
)

// openXLSX opens a sheet of a workbook.
func openXLSX(src Source, o Options) (format.Reader, error) {
	options, err := xlsxOptions(o.Resource)
	if err != nil {
		return nil, err
	}
	options.Pool, options.Temp = o.Pool, o.Temp
	path, err := src.Whole()
	if err != nil {
		return nil, err
	}
	r, err := xlsx.NewReader(path, options)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// xlsxOptions turns what a resource says of its file into the options of the XLSX
// reader. The sheet is the resource's `sheet`, else that of its dialect: sheetName or
// sheetNumber (Table Dialect 2), or `sheet`, also in `excel` (frictionless).
func xlsxOptions(resource map[string]any) (xlsx.Options, error) {
	o := xlsx.Options{}
	dialect, _ := resource["dialect"].(map[string]any)
	excel, _ := dialect["excel"].(map[string]any)
	if dialect != nil {
		d, problems := format.ParseDialect(dialect)
		if len(problems) > 0 {
			return o, &format.Error{Code: CodeDialect, Message: "dialect" + problems[0].Pointer + ": " + problems[0].Message}
		}
		o.Dialect = &d
	}
	d, err := headerOptions(resource, o.Dialect)
	if err != nil {
		return o, err
	}
	o.Dialect = d
	for _, c := range []struct {
		key   string
		value any
	}{
		{"sheet", resource["sheet"]},
		{"dialect/sheetName", dialect["sheetName"]},
		{"dialect/sheetNumber", dialect["sheetNumber"]},
		{"dialect/sheet", dialect["sheet"]},
		{"dialect/excel/sheet", excel["sheet"]},
	} {
		if c.value == nil {
			continue
		}
		if name, ok := c.value.(string); ok && name != "" {
			o.Sheet = name
		} else if o.Number, err = strconv.Atoi(fmt.Sprint(c.value)); err != nil || o.Number < 1 {
			return o, &format.Error{Code: CodeDialect, Message: c.key + " must be the name of a sheet, or its number from 1"}
		}
		break
	}
	o.FillMerged, _ = excel["fillMergedCells"].(bool)
	o.Shown, _ = excel["preserveFormatting"].(bool)
	if schema, ok := resource["schema"].(map[string]any); ok {
		fields, _ := schema["fields"].([]any)
		o.Columns = min(len(fields), xlsx.MaxColumns)
	}
	return o, nil
}

// headerOptions adds to a dialect what the reader options `skip_rows` and `headers`
// say: rows before the header, and where it stands (a row from 1, or several). Labels
// in `headers` mean that the file has none. The dialect is nil where nothing is said.
func headerOptions(resource map[string]any, dialect *format.Dialect) (*format.Dialect, error) {
	skip, err := wholeNumber("skip_rows", resource["skip_rows"])
	if err != nil {
		return nil, err
	}
	d := format.Default()
	if dialect != nil {
		d = *dialect
	}
	d.SkipRows += skip
	switch v := resource["headers"].(type) {
	case nil:
	case []any:
		if len(v) == 0 {
			break
		}
		if _, labels := v[0].(string); labels {
			d.Header = false
			break
		}
		parsed, problems := format.ParseDialect(map[string]any{"headerRows": v})
		if len(problems) > 0 {
			return nil, headersError()
		}
		d.HeaderRows = parsed.HeaderRows
	default:
		n, err := strconv.Atoi(fmt.Sprint(v))
		if err != nil || n < 1 || n > xlsx.MaxRows {
			return nil, headersError()
		}
		d.HeaderRows = []int{n}
	}
	return &d, nil
}

func headersError() error {
	return &format.Error{Code: CodeDialect, Message: "headers must be the number of the header's row, from 1, or a list of such or of labels"}
}
