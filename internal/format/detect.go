package format

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// runesOf is the characters of a single-byte encoding by their bytes, U+FFFD for bytes
// that it leaves undefined. The tables of browsers, which these are, give control
// characters for those; no text has them.
func runesOf(c *charmap.Charmap, controls bool) *[256]rune {
	var table [256]rune
	for i := range table {
		r := c.DecodeByte(byte(i))
		if r >= 0x80 && r < 0xA0 && !controls {
			r = utf8.RuneError
		}
		table[i] = r
	}
	return &table
}

// candidate is a single-byte encoding that a text without a label may be in.
type candidate struct {
	label string
	page  *charmap.Charmap
	// common are letters that make up much of the texts in it, and that the others
	// have in other places.
	common string
	script *unicode.RangeTable // of its letters; nil: Latin
}

func candidates() []candidate {
	return []candidate{
		{label: "windows-1252", page: charmap.Windows1252, common: "äöüßéèàçêâîôûùïëñáíóúãõåøæÄÖÜÉÅØ"},
		{label: "windows-1250", page: charmap.Windows1250, common: "ąćęłńóśźżáčďéěíňřšťúůýžäöüőűĺľŕđŁŚŻČŘŠŽ"},
		{label: "windows-1251", page: charmap.Windows1251, common: "оеаинтсрвлкмдпуяыьгзбчйхжіїє", script: unicode.Cyrillic},
		{label: "windows-1253", page: charmap.Windows1253, common: "αοιετσνηυρκλπμωόάίέήςθδγ", script: unicode.Greek},
	}
}

// likeliest is the single-byte encoding that bytes are in which are not UTF-8. It is
// windows-1252 unless another one turns them into words, and that one does not: letters
// beside letters of the same script, no signs in the midst of words.
func likeliest(p []byte) (string, *charmap.Charmap) {
	const (
		least  = 4 // letters that another one must make
		margin = 2 // letters more than the first
	)
	best, bestScore := candidate{}, 0
	for i, c := range candidates() {
		score, letters := c.score(p)
		if i == 0 {
			best, bestScore = c, score
			continue
		}
		if letters >= least && score >= letters && score > bestScore+margin {
			best, bestScore = c, score
		}
	}
	return best.label, best.page
}

// score is how many letters speak for a candidate less the signs that speak against it.
func (c candidate) score(p []byte) (score, letters int) {
	table := runesOf(c.page, false)
	at := func(i int) rune {
		if i < 0 || i >= len(p) {
			return ' '
		}
		return table[p[i]]
	}
	for i := firstNonASCII(p); i >= 0 && i < len(p); i++ {
		if p[i] < utf8.RuneSelf {
			continue
		}
		r, before, after := table[p[i]], at(i-1), at(i+1)
		inWord := unicode.IsLetter(before) || unicode.IsLetter(after)
		switch {
		case r == utf8.RuneError:
			score -= 4
		case !unicode.IsLetter(r):
			if unicode.IsLetter(before) && unicode.IsLetter(after) && !strings.ContainsRune("’‘´·-–", r) {
				score -= 2
			}
		case c.script != nil && !unicode.Is(c.script, r):
			score--
		case !inWord:
		case unicode.IsLower(before) && unicode.IsUpper(r):
			score--
		case c.script != nil && (unicode.Is(unicode.Latin, before) || unicode.Is(unicode.Latin, after)):
			score-- // scripts do not mix in a word
		case c.script == nil && unicode.Is(unicode.Latin, before) && before >= utf8.RuneSelf && after >= utf8.RuneSelf:
			score-- // three letters with marks in a row are no word
		default:
			letters++
			if score++; strings.ContainsRune(c.common, r) {
				score++
			}
		}
	}
	return score, letters
}
