package tables

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/xlsx"
)

// openXLSX opens a sheet of a workbook.
func openXLSX(ctx context.Context, src Source, o Options) (format.Reader, error) {
	return openSheet(src, o, func(path string, options xlsx.Options) (format.Reader, error) {
		return xlsx.NewReader(ctx, path, options)
	})
}

// openODS opens a sheet of an OpenDocument spreadsheet, by the same options.
func openODS(ctx context.Context, src Source, o Options) (format.Reader, error) {
	return openSheet(src, o, func(path string, options xlsx.Options) (format.Reader, error) {
		return xlsx.NewODSReader(ctx, path, options)
	})
}

func openSheet(src Source, o Options, open func(path string, options xlsx.Options) (format.Reader, error)) (format.Reader, error) {
	options, labels, err := xlsxOptions(o.Resource)
	if err != nil {
		return nil, err
	}
	options.Pool, options.Temp, options.Titles = o.Pool, o.Temp, headerOpen(o.Resource)
	path, err := wholeFile(src)
	if err != nil {
		return nil, err
	}
	r, err := open(path, options)
	if err != nil {
		return nil, err
	}
	return withLabels(r, labels), nil
}

// xlsxOptions turns what a resource says of its file into the options of the XLSX
// reader, and the labels that do not stand in the file. The sheet is the resource's `sheet`, else that of its dialect: sheetName or
// sheetNumber (Table Dialect 2), or `sheet`, also in `excel` (frictionless). Of that count
// fillMergedCells, and preserveFormatting for simple formats (see [xlsx.Options]).
func xlsxOptions(resource map[string]any) (o xlsx.Options, labels []string, err error) {
	dialect, _ := resource["dialect"].(map[string]any)
	excel, _ := dialect["excel"].(map[string]any)
	d, err := parseDialect(dialect)
	if err == nil {
		d, labels, err = withHeader(d, resource)
	}
	if err != nil {
		return o, nil, err
	}
	o.Dialect = &d
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
		} else if n, whole := c.value.(json.Number); whole && c.key != "dialect/sheetNumber" {
			o.Sheet = n.String() // of a sheet that is named so, else its number
		} else if o.Number, err = strconv.Atoi(fmt.Sprint(c.value)); err != nil || o.Number < 1 {
			return o, nil, &format.Error{Code: CodeDialect, Message: c.key + " must be the name of a sheet, or its number from 1"}
		}
		break
	}
	o.FillMerged, _ = excel["fillMergedCells"].(bool)
	o.Shown, _ = excel["preserveFormatting"].(bool)
	if schema, ok := resource["schema"].(map[string]any); ok {
		fields, _ := schema["fields"].([]any)
		o.Columns = min(len(fields), xlsx.MaxColumns)
	}
	o.Columns = max(o.Columns, len(labels))
	return o, labels, nil
}
