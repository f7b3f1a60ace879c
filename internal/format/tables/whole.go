package tables

import (
	"context"
	"os"

	"github.com/datahq/specstore/internal/format"
	"github.com/datahq/specstore/internal/format/parquet"
	"github.com/datahq/specstore/internal/format/sqlite"
)

// wholeFile gives the path of a file that holds all of a source. One without bytes is
// an error, as it is where a file is read as a stream.
func wholeFile(src Source) (string, error) {
	path, err := src.Whole()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() == 0 {
		return "", &format.Error{Code: format.CodeSource, Message: "the file is empty"}
	}
	return path, nil
}

// openParquet opens a Parquet file.
func openParquet(ctx context.Context, src Source, o Options) (format.Reader, error) {
	path, err := wholeFile(src)
	if err != nil {
		return nil, err
	}
	r, err := parquet.NewReader(ctx, path, parquet.Options{Pool: o.Pool, Temp: o.Temp})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openSQLite opens a table of a SQLite database: the one that the resource or its
// dialect names (`table`, Table Dialect 2; or `sheet`, as of workbooks), else the only one.
func openSQLite(ctx context.Context, src Source, o Options) (format.Reader, error) {
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
	path, err := wholeFile(src)
	if err != nil {
		return nil, err
	}
	r, err := sqlite.NewReader(ctx, path, sqlite.Options{Table: table, Pool: o.Pool})
	if err != nil {
		return nil, err
	}
	return r, nil
}
