package format_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/datahq/specstore/internal/format"
)

func TestText(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a,b\n", 300_000) // more than is looked ahead
	for _, c := range []struct {
		name, label, body, want, encoding string
		bad                               bool
	}{
		{"empty", "", "", "", "utf-8", false},
		{"ASCII", "", "a,b", "a,b", "utf-8", false},
		{"UTF-8", "", "é,€,😀", "é,€,😀", "utf-8", false},
		{"UTF-8 under another label", "iso-8859-1", "é", "é", "utf-8", false},
		{"UTF-8 with a mark", "latin-1", "\xef\xbb\xbfé", "é", "utf-8", false},
		{"a mark alone", "", "\xef\xbb\xbf", "", "utf-8", false},
		{"not declared", "", "caf\xe9", "café", "windows-1252", false},
		{"declared by Python's name", "latin_1", "caf\xe9", "café", "latin_1", false},
		{"cp1250", "cp1250", "\x9eena", "žena", "cp1250", false},
		{"the first other byte late", "", long + "\xe9", long + "é", "windows-1252", false},
		{"UTF-16 by its mark", "utf-8", "\xff\xfea\x00\xe9\x00", "aé", "utf-16", false},
		{"UTF-16, big end first", "", "\xfe\xff\x00a", "a", "utf-16", false},
		{"UTF-16 declared", "utf_16_le", "a\x00", "a", "utf-16le", false},
		{"UTF-32 by its mark", "utf-32", "\xff\xfe\x00\x00a\x00\x00\x00", "a", "utf-32", false},
		{"UTF-32 declared", "utf-32-be", "\x00\x00\x00a", "a", "utf-32be", false},
		{"Shift JIS", "shift_jis", "\x93\xfa", "日", "shift-jis", false},
		{"U+FFFD itself", "", "\ufffd", "\ufffd", "utf-8", false},
		{"broken UTF-8", "utf-8", "a\xff", "a", "utf-8", true},
		{"a character that breaks off", "utf-8", "a\xe2\x82", "a", "utf-8", true},
		{"UTF-8 that breaks after what is looked ahead", "", "é" + long + "\xe9", "é" + long, "utf-8", true},
		{"broken Shift JIS", "shift_jis", "a,b\n\x93\xfa\xff", "a,b\n日", "shift-jis", true},
		{"a byte that the encoding lacks", "iso-8859-3", "a\xa5", "a", "iso-8859-3", true},
		{"a file of UTF-8 with one stray byte", "", "é\xe9é", "é", "utf-8", true},
		{"as declared, with a character by chance", "cp1252", "caf\xc9\xbb \xe9\xe9", "cafÉ» éé", "cp1252", false},
		{"Polish", "", "za\xbf\xf3\xb3\xe6 g\xea\x9cl\xb9 ja\x9f\xf1", "zażółć gęślą jaźń", "windows-1250", false},
		{"Czech", "", "\xe8e\x9at\xec, \xf8\xedjen, d\xf9m, m\xecsto", "čeště, říjen, dům, město", "windows-1250", false},
		{"Russian", "", "\xcc\xee\xf1\xea\xe2\xe0,\xcf\xe5\xf0\xec\xfc", "Москва,Пермь", "windows-1251", false},
		{"Greek", "", "\xc1\xe8\xde\xed\xe1,\xf0\xfc\xeb\xe7", "Αθήνα,πόλη", "windows-1253", false},
		{"French", "", "\xe9l\xe8ve,for\xeat,\xe0 c\xf4t\xe9,c\x9cur", "élève,forêt,à côté,cœur", "windows-1252", false},
		{"signs of windows-1252", "", "10 \x80, \x93x\x94 \x96 5 m\xb2", "10 €, “x” – 5 m²", "windows-1252", false},
		{"a byte that nothing has", "", "caf\x81", "caf", "windows-1252", true},
		{"control characters of ISO 8859-1", "iso-8859-1", "\x85\xe9", "\u2026é", "iso-8859-1", false},
		{"UTF-16 without a mark", "", "a\x00,\x00\xe9\x00\n\x00", "a,é\n", "utf-16le", false},
		{"UTF-16 without a mark, big end first", "", "\x00a\x00,\x00b\x00\n", "a,b\n", "utf-16be", false},
		{"UTF-16 of Cyrillic without a mark", "", "\x1c\x04>\x04,\x00\x1f\x04;\x00A\x04\n\x00", "Мо,П;с\n", "utf-16le", false},
		{"UTF-32 without a mark", "", "a\x00\x00\x00,\x00\x00\x00\xe9\x00\x00\x00", "a,é", "utf-32le", false},
		{"UTF-16 declared without its order", "utf-16", "\x00a\x00,\x00b", "a,b", "utf-16", false},
		{"a zero in a text", "", "a,b\n1,\x00\n", "a,b\n1,\x00\n", "utf-8", false},
		{"U+FFFD itself in UTF-16", "", "\xff\xfe\xfd\xff", "\ufffd", "utf-16", false},
		{"U+FFFD itself in GB 18030", "gb18030", "a\x84\x31\xa4\x37", "a\ufffd", "gb18030", false},
		{"half a character of UTF-16", "", "\xff\xfea\x00b", "a", "utf-16", true},
		{"ASCII that is none", "ascii", "\xe9", "", "utf-8", true},
	} {
		for how, r := range map[string]io.Reader{
			"at once": strings.NewReader(c.body), "in halves": iotest.HalfReader(strings.NewReader(c.body)),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.body)), "with its end": iotest.DataErrReader(strings.NewReader(c.body)),
		} {
			text, err := format.NewText(r, c.label)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			var out strings.Builder
			_, err = io.CopyBuffer(struct{ io.Writer }{&out}, struct{ io.Reader }{text}, make([]byte, 1+len(c.body)%3))
			b := out.String()
			_, bad := errors.AsType[*format.EncodingError](err)
			if b != c.want || bad != c.bad || err != nil && !bad || text.Encoding() != c.encoding {
				t.Errorf("%s, %s: %.80q as %s, %v", c.name, how, b, text.Encoding(), err)
			}
			if _, again := text.Read(make([]byte, 8)); again == nil {
				t.Errorf("%s: no end after the end", c.name)
			}
		}
	}
	if _, err := format.NewText(strings.NewReader(""), "klingon"); err == nil || !strings.Contains(err.Error(), "klingon") {
		t.Errorf("an unknown encoding: %v", err)
	}
}

func TestDialectProblems(t *testing.T) {
	t.Parallel()
	for pointer, dialects := range map[string][]map[string]any{
		"/delimiter":      {{"delimiter": ""}, {"delimiter": "\n"}, {"delimiter": 1}, {"delimiter": "123456789"}},
		"/quoteChar":      {{"quoteChar": ","}, {"quoteChar": "\n"}, {"quoteChar": "«"}, {"quoteChar": "|", "delimiter": "||"}},
		"/escapeChar":     {{"escapeChar": ","}, {"escapeChar": "\r"}, {"escapeChar": "€"}},
		"/lineTerminator": {{"lineTerminator": ";;"}},
		"/header":         {{"header": "yes"}},
		"/headerRows":     {{"headerRows": []any{2, 1}}, {"headerRows": []any{0}}, {"headerRows": 1}, {"headerRows": []any{1e300}}},
		"/commentRows":    {{"commentRows": []any{1.5}}},
	} {
		for _, d := range dialects {
			if _, problems := format.ParseDialect(d); len(problems) == 0 || problems[0].Pointer != pointer {
				t.Errorf("%v: %v, want a problem at %s", d, problems, pointer)
			}
		}
	}
	for _, d := range []map[string]any{nil, {"delimiter": "::"}, {"quoteChar": nil}, {"quoteChar": ""}, {"unknown": 1}, {"commentChar": "#"}} {
		if _, problems := format.ParseDialect(d); len(problems) > 0 {
			t.Errorf("%v: %v", d, problems)
		}
	}
}
