// Package rawstore keeps the files that publishers push, before they are part of a
// package.
//
// A file's key is OWNERID/MD5-LENGTH, which is all that clients say of it. Leave to
// upload is a signed form that names one key and ends after an hour; what arrives
// must have that length and MD5. Since MD5 can be made to collide, the first file
// under a key stays, and its SHA-256 is kept: under a key there is never anything
// else. An address for reading is signed too. Keys belong to their owner: nobody
// learns what another has uploaded.
//
// Clients put keys into addresses, and those into queries, without escaping them.
// So a key has none but letters, digits and "-._~/": in the owner ID every other
// byte, and a first "." or "_", is written as "~" and two hexadecimal digits.
package rawstore

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/objstore"
)

// How long what is signed is good.
const (
	uploadLife = time.Hour
	readLife   = 6 * time.Hour
)

// MaxBytes is the longest file.
const MaxBytes = 1 << 40

// Ledger records which files are wanted. What nobody wants any more is removed, which no
// file is that was recorded within the last day.
type Ledger interface {
	// Wanted records that files are wanted, by their keys. It is called before it is
	// looked whether they are there.
	Wanted(ctx context.Context, keys ...string) error
}

// Store keeps the files of all owners.
type Store struct {
	objects objstore.Store
	secret  []byte
	now     func() time.Time
	ledger  Ledger // may be nil
}

// WithLedger returns the store as one that records in a ledger which files are wanted.
func (s *Store) WithLedger(l Ledger) *Store {
	with := *s
	with.ledger = l
	return &with
}

// New makes a store. The secret signs addresses and forms; processes that share the
// files share it. Without one a store signs with a secret of its own, by chance.
func New(objects objstore.Store, secret []byte, now func() time.Time) *Store {
	if len(secret) == 0 {
		secret = []byte(rand.Text())
	}
	return &Store{objects: objects, secret: secret, now: now}
}

// File is what a client says of a file.
type File struct {
	Length int64  `json:"length"`
	MD5    string `json:"md5"` // base64 (RFC 4648, section 4)
	Name   string `json:"name"`
	Type   string `json:"type"` // content type
}

// Leave is the answer: where and how to upload it.
type Leave struct {
	URL    string            `json:"upload_url"`
	Query  map[string]string `json:"upload_query"` // fields that go before the file
	Exists bool              `json:"exists"`
	MD5    string            `json:"md5"`
	Length int64             `json:"length"`
	Name   string            `json:"name"`
	Type   string            `json:"type"`
}

const (
	maxFiles = 10000 // that one question may be about
	maxType  = 255   // bytes of a content type
)

// Authorize gives leave to upload files, by the paths that the client knows them
// by. base is the address of the upload route. It fails with Invalid where a file
// is not described as it must be, and with TooLarge where there are too many.
func (s *Store) Authorize(ctx context.Context, owner string, files map[string]File, base string) (map[string]Leave, error) {
	if len(files) > maxFiles {
		return nil, errs.New(errs.TooLarge, "rawstore.Authorize", "more than %d files", maxFiles)
	}
	if wrong := flowspec.CheckOwner(owner); wrong != "" {
		return nil, errs.New(errs.Invalid, "rawstore.Authorize", "metadata.owner: %s", wrong)
	}
	out := make(map[string]Leave, len(files))
	there := map[string][]string{} // paths of files that are there, by key
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		sum, err := base64.StdEncoding.DecodeString(f.MD5)
		if err != nil || len(sum) != md5.Size {
			return nil, errs.New(errs.Invalid, "rawstore.Authorize", "the md5 of the file %.200q must be its MD5 in base64", path)
		}
		if f.Length < 0 || f.Length > MaxBytes {
			return nil, errs.New(errs.Invalid, "rawstore.Authorize", "the length of the file %.200q is not one of a file", path)
		}
		key := fmt.Sprintf("%s/%s-%d", ownerPart(owner), hex.EncodeToString(sum), f.Length)
		if err := objstore.CheckKey(key); err != nil {
			return nil, errs.Wrap(err, errs.Invalid, "rawstore.Authorize", "metadata.owner is too long")
		}
		contentType := cmp.Or(f.Type, "application/octet-stream")
		if len(contentType) > maxType || strings.ContainsFunc(contentType, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, errs.New(errs.Invalid, "rawstore.Authorize", "the type of the file %.200q is not a content type", path)
		}
		exists, err := s.Has(ctx, key)
		if err != nil {
			return nil, err
		}
		if exists {
			there[key] = append(there[key], path)
		}
		policy := s.until(uploadLife)
		out[path] = Leave{
			URL: base, Exists: exists, MD5: f.MD5, Length: f.Length, Name: f.Name, Type: contentType,
			Query: map[string]string{"key": key, "Content-Type": contentType, "policy": policy, "signature": s.sign("upload", key, policy, contentType)},
		}
	}
	if s.ledger == nil {
		return out, nil
	}
	// Only what is there once it is known to be wanted stays.
	if err := s.ledger.Wanted(ctx, slices.Sorted(maps.Keys(there))...); err != nil {
		return nil, err
	}
	for key, paths := range there {
		exists, err := s.Has(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			leave := out[path]
			leave.Exists = exists
			out[path] = leave
		}
	}
	return out, nil
}

// Has reports whether a file is there with its length.
func (s *Store) Has(ctx context.Context, key string) (bool, error) {
	_, _, length, ok := parse(key)
	if !ok {
		return false, nil
	}
	info, err := s.objects.Stat(ctx, key)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil && info.Size == length, err
}

// Remove removes a file. To remove what is not there is no error.
func (s *Store) Remove(ctx context.Context, key string) error {
	if _, _, _, ok := parse(key); !ok {
		return noFile("rawstore.Remove")
	}
	// First the file, so that there is none without its note.
	if err := s.objects.Delete(ctx, key); err != nil {
		return err
	}
	return s.objects.Delete(ctx, key+noteSuffix)
}

// Each calls fn for every file.
func (s *Store) Each(ctx context.Context, fn func(key string, at time.Time) error) error {
	for info, err := range s.objects.List(ctx, "") {
		if err != nil {
			return err
		}
		if _, _, _, ok := parse(info.Key); !ok {
			continue
		}
		if err := fn(info.Key, info.ModTime); err != nil {
			return err
		}
	}
	return nil
}

// ownerPart is how an owner ID is written in keys.
func ownerPart(owner string) string {
	var b strings.Builder
	for i := range len(owner) {
		c := owner[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', i > 0 && (c == '.' || c == '_'):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "~%02x", c)
		}
	}
	return b.String()
}

// parse takes a key apart.
func parse(key string) (owner, sum string, length int64, ok bool) {
	owner, name, _ := strings.Cut(key, "/")
	sum, digits, _ := strings.Cut(name, "-")
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != md5.Size || sum != strings.ToLower(sum) {
		return "", "", 0, false
	}
	length, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(length, 10) != digits || length < 0 || objstore.CheckKey(key) != nil {
		return "", "", 0, false
	}
	return owner, sum, length, true
}

// until is the time in seconds at which what is signed now is over.
func (s *Store) until(life time.Duration) string {
	return strconv.FormatInt(s.now().Add(life).Unix(), 10)
}

func (s *Store) sign(parts ...string) string {
	m := hmac.New(sha256.New, s.secret)
	for _, p := range parts {
		fmt.Fprintf(m, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(m.Sum(nil))
}

// good checks a signature of parts, and a time in seconds that is one of them.
func (s *Store) good(expires, signature string, parts ...string) bool {
	at, err := strconv.ParseInt(expires, 10, 64)
	return err == nil && hmac.Equal([]byte(signature), []byte(s.sign(parts...))) && s.now().Before(time.Unix(at, 0))
}

// Accept keeps an uploaded file, whose form holds the fields of a [Leave]. Before
// it reads from body it refuses a form that is not signed or over with Forbidden.
// A file that is not the announced one is Invalid; one that has its MD5, but is not
// the file that was uploaded before, a Conflict.
func (s *Store) Accept(ctx context.Context, form map[string]string, body io.Reader) error {
	key, policy := form["key"], form["policy"]
	if !s.good(policy, form["signature"], "upload", key, policy, form["Content-Type"]) {
		return errs.New(errs.Forbidden, "rawstore.Accept", "the leave to upload is not valid, or over: ask for a new one")
	}
	_, sum, length, ok := parse(key)
	if !ok {
		return errs.New(errs.Invalid, "rawstore.Accept", "the key is not one of a file")
	}
	w, err := s.objects.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Cancel()
	named, identity := md5.New(), sha256.New()
	source := &source{r: body}
	n, err := io.Copy(io.MultiWriter(w, named, identity), io.LimitReader(source, length+1))
	switch {
	case errs.KindOf(source.err) != errs.Internal:
		return source.err
	case source.err != nil:
		return errs.Wrap(source.err, errs.Invalid, "rawstore.Accept", "the upload broke off after %d bytes", n)
	case err != nil:
		return err
	case n != length || hex.EncodeToString(named.Sum(nil)) != sum:
		return errs.New(errs.Invalid, "rawstore.Accept", "what arrived is not the file that leave was given for: its length or MD5 differ")
	}
	if s.ledger != nil {
		if err := s.ledger.Wanted(ctx, key); err != nil {
			return err
		}
	}
	return s.keep(ctx, w, key, length, hex.EncodeToString(identity.Sum(nil)))
}

// source remembers the error of a reader, to tell it from one of the writer.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// keep commits a file that no other one may replace.
func (s *Store) keep(ctx context.Context, w objstore.Writer, key string, length int64, identity string) error {
	info, err := s.objects.Stat(ctx, key)
	if err == nil && info.Size == length {
		kept, err := s.SHA256(ctx, key)
		if err == nil && kept == identity {
			return nil
		}
		if err == nil {
			return errs.New(errs.Conflict, "rawstore.Accept", "another file with this MD5 was uploaded before")
		}
		if !errs.Is(err, errs.NotFound) {
			return err
		}
	} else if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	// First the note, so that there is no file without one.
	note, err := s.objects.Create(ctx, key+noteSuffix)
	if err != nil {
		return err
	}
	defer note.Cancel()
	if _, err := io.WriteString(note, identity); err != nil {
		return err
	}
	if err := note.Commit(); err != nil {
		return err
	}
	return w.Commit()
}

// noteSuffix makes of a key the one of the object with the file's SHA-256. It is
// no key of a file, so nobody outside can name it.
const noteSuffix = ".sha256"

// SHA256 gives the hash of an uploaded file in hexadecimal, NotFound where there
// is none.
func (s *Store) SHA256(ctx context.Context, key string) (string, error) {
	if _, _, _, ok := parse(key); !ok {
		return "", noFile("rawstore.SHA256")
	}
	o, err := s.objects.Open(ctx, key+noteSuffix)
	if err != nil {
		return "", err
	}
	defer o.Close()
	b := make([]byte, hex.EncodedLen(sha256.Size))
	if _, err := io.ReadFull(o, b); err != nil {
		return "", fmt.Errorf("rawstore: the hash of %s: %w", key, err)
	}
	return string(b), nil
}

func noFile(op string) error {
	return errs.New(errs.NotFound, op, "there is no such file")
}

// Address is the address of a file without leave to read it, as specs name it.
func Address(base, key string) string { return base + "/" + key }

// Presign gives an address that anybody may read a file by for six hours.
func (s *Store) Presign(base, key string) string { return s.PresignAt(base, key, s.now()) }

// PresignAt is [Store.Presign] as at another time: the same time gives the same address.
func (s *Store) PresignAt(base, key string, at time.Time) string {
	expires := strconv.FormatInt(at.Add(readLife).Unix(), 10)
	return Address(base, key) + "?expires=" + expires + "&signature=" + s.sign("read", key, expires)
}

// MayRead checks what a signed address says.
func (s *Store) MayRead(key, expires, signature string) bool {
	return s.good(expires, signature, "read", key, expires)
}

// KeyOf finds the key in an address of the store, whatever its query. Only an
// address of a file has one, and only in one spelling apart from escapes.
func KeyOf(base, address string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(address, base+"/")
	if !ok {
		return "", false
	}
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	key, err := url.PathUnescape(rest)
	if err != nil {
		return "", false
	}
	_, _, _, ok = parse(key)
	if !ok {
		return "", false
	}
	return key, true
}

// ownPath is what the addresses of files have before the key, whatever the server's is.
const ownPath = "/rawstore/o/"

// OwnKey finds the key of an owner's file in an address of any host: a server moves, and
// has several names. Whoever uses it reads what the owner may read anyway, and of the MD5
// and the length that the address says; an address of another server that looks like ours
// may be meant all the same, where there is no such file.
func OwnKey(owner, address string) (key string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", false
	}
	path := u.EscapedPath()
	at := strings.LastIndex(path, ownPath)
	if at < 0 {
		return "", false
	}
	key, err = url.PathUnescape(path[at+len(ownPath):])
	if err != nil || !Owned(key, owner) {
		return "", false
	}
	return key, true
}

// Mentioned returns the keys of an owner's files that the texts of a document may mean,
// of JSON as [encoding/json] reads it: more than are sources, so that none is missed that
// is one.
func Mentioned(owner string, document any) []string {
	found := map[string]bool{}
	var look func(v any)
	look = func(v any) {
		switch v := v.(type) {
		case string:
			mentioned(found, owner, v)
			if strings.Contains(v, "%") {
				if plain, err := url.PathUnescape(v); err == nil {
					mentioned(found, owner, plain)
				}
			}
		case []any:
			for _, one := range v {
				look(one)
			}
		case map[string]any:
			for name, one := range v {
				look(name)
				look(one)
			}
		}
	}
	look(document)
	return slices.Sorted(maps.Keys(found))
}

// mentioned adds the keys in a text to those found.
func mentioned(found map[string]bool, owner, text string) {
	const sumEnd = 2 * md5.Size
	prefix := ownerPart(owner) + "/"
	for rest := text; ; {
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			return
		}
		before, after := rest[:i+1], rest[i+1:]
		rest = after
		if len(after) <= sumEnd || after[sumEnd] != '-' || !strings.HasSuffix(before, prefix) {
			continue
		}
		end := sumEnd + 1
		for end < len(after) && '0' <= after[end] && after[end] <= '9' {
			end++
		}
		if key := prefix + after[:end]; Owned(key, owner) {
			found[key] = true
		}
	}
}

// Owned reports whether a key is one of an owner's.
func Owned(key, owner string) bool {
	of, _, _, ok := parse(key)
	return ok && owner != "" && of == ownerPart(owner)
}

// Open opens a file.
func (s *Store) Open(ctx context.Context, key string) (objstore.Object, error) {
	if _, _, _, ok := parse(key); !ok {
		return nil, noFile("rawstore.Open")
	}
	return s.objects.Open(ctx, key)
}
