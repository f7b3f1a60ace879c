package engine

import (
	"io"
	"strings"
	"testing"

	"github.com/datahq/specstore/internal/errs"
)

// TestNotPage: a page is no data, whatever stands before its first tag; and data are not
// taken for a page.
func TestNotPage(t *testing.T) {
	pages := []string{
		"<!DOCTYPE html><title>Sign in</title>", "<!doctype HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\">", "<html lang=en>", "<HTML>",
		"\uFEFF\r\n\t <!DOCTYPE html>", "<!-- cached --><!-- twice -->\n<html>", "<?xml version=\"1.0\"?>\n<!DOCTYPE html>", "<html\n>",
	}
	data := []string{
		"", "a,b\n1,2\n", "<htmlish>,b\n", "<!doctype htmlx>", "<html", "<!-- never closed <html>", "<data><html></html></data>", "{\"a\": \"<html>\"}",
		"%PDF-1.7", "PK\x03\x04", "\x1f\x8b\x08", "<kml>", "<?xml version=\"1.0\"?><gml>",
	}
	read := func(text, url string) (string, error) {
		_, format := formatOf(url)
		b, err := io.ReadAll(notPage(io.NopCloser(strings.NewReader(text)), format))
		return string(b), err
	}
	for _, url := range []string{
		"http://h/t.csv", "http://h/t.CSV", "http://h/t.pdf", "http://h/t.zip", "http://h/t.csv.gz", "http://h/export?id=1#.csv", "http://h/t.json?x=/y", "data/t.xlsx",
	} {
		for _, text := range pages {
			if _, err := read(text, url); !errs.Is(err, errs.Invalid) || !strings.Contains(errs.Detail(err), "is an HTML page") {
				t.Errorf("%q at %s: got %v, want a refusal", text, url, err)
			}
		}
		for _, text := range data {
			if got, err := read(text, url); err != nil || got != text {
				t.Errorf("%q at %s: got %q, %v", text, url, got, err)
			}
		}
	}
	for _, url := range []string{"http://h/t.html", "http://h/t.HTM", "http://h/page", "http://h/x#.html", "http://h/readme.md", "http://h/index.php?id=1"} {
		for _, text := range append(pages, data...) {
			if got, err := read(text, url); err != nil || got != text {
				t.Errorf("%q at %s: got %q, %v", text, url, got, err)
			}
		}
	}
}
