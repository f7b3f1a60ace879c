package auth

import (
	"crypto/rsa"
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerified bounds the tokens that a [Verifier] remembers: twice as many are there
// at most, of some 300 bytes each.
const maxVerified = 4096

// rememberFor is how long a token that was checked is good without another check. A
// token that never expires is checked again, too.
const rememberFor = 5 * time.Minute

// verified remembers tokens whose signature was good, by the hash of their text, so
// that it is not computed for each request. What was refused is not remembered. The
// zero value remembers none.
type verified struct {
	mu          sync.Mutex
	young, aged map[[sha256.Size]byte]*checked // what is not asked for in the time of one filling is forgotten
}

// checked is a token, the key that its signature was checked with, and when.
type checked struct {
	Token
	key *rsa.PublicKey
	at  time.Time
}

// token is a copy, which the caller may change.
func (c *checked) token() *Token {
	t := c.Token
	return &t
}

// get gives a token that is as good now as when it was checked; else nil. Time that
// passes makes no other claim than exp wrong, unless the clock is put back.
func (v *verified) get(sum [sha256.Size]byte, now time.Time) *checked {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.young[sum]
	if c == nil {
		if c = v.aged[sum]; c == nil {
			return nil
		}
	}
	expired := !c.Expires.IsZero() && !now.Before(c.Expires.Add(Leeway))
	if since := now.Sub(c.at); expired || since < 0 || since > rememberFor {
		delete(v.young, sum)
		delete(v.aged, sum)
		return nil
	}
	if v.young[sum] == nil {
		v.put(sum, c)
	}
	return c
}

func (v *verified) add(sum [sha256.Size]byte, c *checked) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(sum, c)
}

func (v *verified) put(sum [sha256.Size]byte, c *checked) {
	if v.young == nil || len(v.young) >= maxVerified {
		v.young, v.aged = map[[sha256.Size]byte]*checked{}, v.young
	}
	v.young[sum] = c
}
