// Package rawstore keeps the files that publishers push, before they are part of a
// package.
//
// A file's key is OWNERID/MD5-LENGTH, which is all that clients say of it. Leave to
// upload is a signed form that names one key and ends after an hour; what arrives
// must have that length and MD5, so under a key there is never anything else. An
// address for reading is signed too. Keys belong to their owner: nobody learns what
// another has uploaded.
package rawstore

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
)

// How long what is signed is good.
const (
	uploadLife = time.Hour
	readLife   = 6 * time.Hour
)

// MaxBytes is the longest file.
const MaxBytes = 1 << 40

// Store keeps the files of all owners.
type Store struct {
	objects *objstore.Local
	secret  []byte
	now     func() time.Time
}

// New makes a store. The secret signs addresses and forms; processes that share the
// files share it.
func New(objects *objstore.Local, secret []byte, now func() time.Time) *Store {
	return &Store{objects, secret, now}
}

// File is what a client says of a file.
type File struct {
	Length int64  `json:"length"`
	MD5    string `json:"md5"` // base64
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

const maxFiles = 10000 // that one question may be about

// Authorize gives leave to upload files, by the paths that the client knows them
// by. base is the address of the upload route.
func (s *Store) Authorize(ctx context.Context, owner string, files map[string]File, base string) (map[string]Leave, error) {
	if len(files) > maxFiles {
		return nil, errs.New(errs.TooLarge, "rawstore.Authorize", "more than %d files", maxFiles)
	}
	if owner == "" || strings.Contains(owner, "/") {
		return nil, errs.New(errs.Invalid, "rawstore.Authorize", "metadata.owner is missing")
	}
	out := make(map[string]Leave, len(files))
	for path, f := range files {
		sum, err := base64.StdEncoding.DecodeString(f.MD5)
		if err != nil || len(sum) != md5.Size {
			return nil, errs.New(errs.Invalid, "rawstore.Authorize", "filedata.%s.md5 must be the MD5 of the file in base64", path)
		}
		if f.Length < 0 || f.Length > MaxBytes {
			return nil, errs.New(errs.Invalid, "rawstore.Authorize", "filedata.%s.length is not the length of a file", path)
		}
		key := fmt.Sprintf("%s/%s-%d", owner, hex.EncodeToString(sum), f.Length)
		if err := objstore.CheckKey(key); err != nil {
			return nil, err
		}
		contentType := f.Type
		if contentType == "" {
			contentType = "application/octet-stream"
		}
		policy := strconv.FormatInt(s.now().Add(uploadLife).Unix(), 10)
		_, err = s.objects.Stat(ctx, key)
		out[path] = Leave{
			URL: base, Exists: err == nil, MD5: f.MD5, Length: f.Length, Name: f.Name, Type: contentType,
			Query: map[string]string{"key": key, "Content-Type": contentType, "policy": policy, "signature": s.sign("upload", key, policy)},
		}
	}
	return out, nil
}

func (s *Store) sign(parts ...string) string {
	m := hmac.New(sha256.New, s.secret)
	for _, p := range parts {
		fmt.Fprintf(m, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(m.Sum(nil))
}

// good checks a signature and a time in seconds.
func (s *Store) good(what, key, expires, signature string) bool {
	at, err := strconv.ParseInt(expires, 10, 64)
	return err == nil && hmac.Equal([]byte(signature), []byte(s.sign(what, key, expires))) && s.now().Before(time.Unix(at, 0))
}

// Accept keeps an uploaded file, whose form holds the fields of a [Leave].
func (s *Store) Accept(ctx context.Context, form map[string]string, body io.Reader) error {
	key := form["key"]
	if !s.good("upload", key, form["policy"], form["signature"]) {
		return errs.New(errs.Forbidden, "rawstore.Accept", "the leave to upload is not valid, or over: ask for a new one")
	}
	_, name, _ := strings.Cut(key, "/")
	sum, length, _ := strings.Cut(name, "-")
	size, err := strconv.ParseInt(length, 10, 64)
	if err != nil {
		return errs.New(errs.Invalid, "rawstore.Accept", "the key is not one of a file")
	}
	w, err := s.objects.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Cancel()
	h := md5.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(body, size+1))
	if err != nil {
		return err
	}
	if n != size || hex.EncodeToString(h.Sum(nil)) != sum {
		return errs.New(errs.Invalid, "rawstore.Accept", "what arrived is not the file that leave was given for: its length or MD5 differ")
	}
	return w.Commit()
}

// Address is the address of a file without leave to read it, as specs name it.
func Address(base, key string) string {
	owner, name, _ := strings.Cut(key, "/")
	return base + "/" + url.PathEscape(owner) + "/" + name
}

// Presign gives an address that anybody may read a file by for six hours.
func (s *Store) Presign(base, key string) string {
	expires := strconv.FormatInt(s.now().Add(readLife).Unix(), 10)
	return Address(base, key) + "?expires=" + expires + "&signature=" + s.sign("read", key, expires)
}

// MayRead checks what a signed address says.
func (s *Store) MayRead(key, expires, signature string) bool {
	return s.good("read", key, expires, signature)
}

// KeyOf finds the key in an address of the store, whatever its query.
func KeyOf(base, address string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(address, base+"/")
	if !ok {
		return "", false
	}
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	key, err := url.PathUnescape(rest)
	if err != nil || objstore.CheckKey(key) != nil || strings.Count(key, "/") != 1 {
		return "", false
	}
	return key, true
}

// Owned reports whether a key is one of an owner's.
func Owned(key, owner string) bool {
	of, _, _ := strings.Cut(key, "/")
	return of == owner
}

// Open opens a file.
func (s *Store) Open(ctx context.Context, key string) (objstore.Object, objstore.Info, error) {
	return s.objects.Open(ctx, key)
}
