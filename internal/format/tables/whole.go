package tables

import (
	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/parquet"
	"github.com/datahq/specstore/internal/format/sqlite"
)

// openParquet opens a Parquet file.
func openParquet(src Source, o Options) (format.Reader, error) {
	path, err := src.Whole()
	if err != nil {
		return nil, err
	}
	r, err := parquet.NewReader(path, parquet.Options{Pool: o.Pool, Temp: o.Temp})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openSQLite opens a table of a SQLite database: the one that the resource or its
// dialect names (`table`, Table Dialect 2; or `sheet`, as of workbooks), else the only one.
func openSQLite(src Source, o Options) (format.Reader, error) {
	dialect, _ := o.Resource["dialect"].(map[string]any)
	table := ""
	for _, v := range []any{o.Resource["table"], dialect["table"], o.Resource["sheet"], dialect["sheet"]} {
		if v == nil || table != "" {
			continue
		}
		var ok bool
		if table, ok = v.(string); !ok {
			return nil, &format.Error{Code: CodeDialect, Message: "the table of a database must be a text: its name"}
		}
	}
	path, err := src.Whole()
	if err != nil {
		return nil, err
	}
	r, err := sqlite.NewReader(path, sqlite.Options{Table: table, Pool: o.Pool})
	if err != nil {
		return nil, err
	}
	return r, nil
}
