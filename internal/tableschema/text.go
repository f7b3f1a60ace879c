package tableschema

import (
	"bytes"
	"errors"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/datahq/specstore/internal/pattern"
)

func prepareString(c *Caster) error {
	var valid func([]byte) bool
	switch c.format() {
	case "email":
		c.what, valid = "an email address", isEmail
	case "uri":
		c.what, valid = "a URI", isURI
	case "uuid":
		c.what, valid = "a UUID", isUUID
	case "binary":
		c.what, valid = "base64", isBinary
	default: // the standard knows no other; a reader leaves them to the owner
		valid = anyText
	}
	return reader(valid)(c)
}

// isEmail: words with single dots between them, an at sign, a domain of at least
// two labels of letters, digits and hyphens.
func isEmail(b []byte) bool {
	at := bytes.LastIndexByte(b, '@')
	const longest = 64 // octets of a local part, RFC 5321
	if at < 1 || at > longest || at == len(b)-1 {
		return false
	}
	for word := range bytes.SplitSeq(b[:at], []byte(".")) {
		if len(word) == 0 {
			return false
		}
		for len(word) > 0 {
			r, n := utf8.DecodeRune(word)
			if r < utf8.RuneSelf && !isAlphanumeric(byte(r)) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) || unicode.IsSpace(r) {
				return false
			}
			word = word[n:]
		}
	}
	labels := bytes.Split(b[at+1:], []byte("."))
	if len(labels) < 2 {
		return false
	}
	for i, label := range labels {
		if len(label) == 0 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if i == len(labels)-1 && utf8.RuneCount(label) < 2 {
			return false
		}
		for _, r := range string(label) {
			if r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
				return false
			}
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// isURI: a scheme, and the characters of RFC 3986 with whole percent escapes.
func isURI(b []byte) bool {
	colon := bytes.IndexByte(b, ':')
	if colon < 1 || !unicode.IsLetter(rune(b[0])) || b[0] >= utf8.RuneSelf {
		return false
	}
	for _, c := range b[:colon] {
		if !isAlphanumeric(c) && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	for i := colon + 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '%':
			if i+2 >= len(b) || !isHex(b[i+1]) || !isHex(b[i+2]) {
				return false
			}
		case !isAlphanumeric(c) && strings.IndexByte("-._~:/?#[]@!$&'()*+,;=", c) < 0:
			return false
		}
	}
	return true
}

// isUUID: 8-4-4-4-12 hexadecimal digits, or all 32 without hyphens.
func isUUID(b []byte) bool {
	if len(b) == 32 {
		return !bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf || !isHex(byte(r)) })
	}
	if len(b) != 36 {
		return false
	}
	for i, c := range b {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isHex(c) {
				return false
			}
		}
	}
	return true
}

// patternCheck anchors a regular expression at both ends of the whole text.
// \w and \d are letters and digits of all scripts.
func (c *Caster) patternCheck(pointer string, v any) (func([]byte) bool, error) {
	text, ok := v.(string)
	if !ok {
		return nil, fault(pointer, "must be a text")
	}
	if len(text) > maxPattern {
		return nil, fault(pointer, "is longer than %d bytes", maxPattern)
	}
	if _, err := syntax.Parse(text, syntax.Perl); err != nil {
		return nil, fault(pointer, "is not a regular expression: %s", err)
	}
	re, err := c.patterns.Compile(wholeText(text))
	if _, ok := errors.AsType[*pattern.SizeError](err); ok {
		return nil, fault(pointer, "%s", err)
	}
	if err != nil {
		return nil, fault(pointer, "is not a regular expression: %s", err)
	}
	return func(text []byte) bool { return !re.Match(text) }, nil
}

// wholeText anchors a regular expression at both ends of the text.
func wholeText(expression string) string { return `\A(?:` + allScripts(expression) + `)\z` }

// allScripts writes the classes \w and \d out.
func allScripts(pattern string) string {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		if c == '\\' && i+1 < len(pattern) {
			i++
			class := ""
			switch pattern[i] {
			case 'w':
				class = `\p{L}\p{N}_`
			case 'd':
				class = `\p{Nd}`
			}
			switch {
			case class == "":
				b.WriteByte('\\')
				b.WriteByte(pattern[i])
			case inClass:
				b.WriteString(class)
			default:
				b.WriteString("[" + class + "]")
			}
			continue
		}
		switch c {
		case '[':
			inClass = true
		case ']':
			inClass = false
		}
		b.WriteByte(c)
	}
	return b.String()
}
