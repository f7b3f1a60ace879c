package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/rawstore"
)

func (a *api) caller(r *http.Request, action auth.Action, ownerID string) error {
	caller, err := a.Verifier.Verify(r.Context(), auth.FromRequest(r))
	if err != nil {
		return err
	}
	return caller.Require(action, ownerID)
}

// bearer is the caller of a request with a token.
func (a *api) bearer(r *http.Request) caller {
	_, err := a.Verifier.Verify(r.Context(), auth.FromRequest(r))
	return caller{refusal: err}
}

const maxAuthorize = 8 << 20

func (a *api) rawAuthorize(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Metadata struct {
			Owner string `json:"owner"`
		} `json:"metadata"`
		Files map[string]rawstore.File `json:"filedata"`
	}
	if err := a.decode(w, r, maxAuthorize, a.bearer(r), &in, "a JSON object with metadata and filedata"); err != nil {
		return err
	}
	if err := a.caller(r, auth.RawWrite, in.Metadata.Owner); err != nil {
		return err
	}
	leaves, err := a.Raw.Authorize(r.Context(), in.Metadata.Owner, in.Files, a.base(r).raw())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"filedata": leaves})
}

const (
	maxField  = 4096 // bytes of a field's value
	maxFields = 50
)

// beginning is the beginning of a body, of a bounded length.
type beginning struct {
	io.ReadCloser
	left int64
}

// Read implements [io.Reader].
func (b *beginning) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errs.New(errs.TooLarge, "httpapi.rawUpload", "the form has more than %d bytes before its file", maxUnknown)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func formBroken(err error) error {
	if e := broken(err); errs.Is(e, errs.TooLarge) || errors.Is(e, errSlow) {
		return e
	}
	return errs.Wrap(err, errs.Invalid, "httpapi.rawUpload", "the form broke off")
}

// rawUpload takes a form whose fields come first and whose file comes last.
func (a *api) rawUpload(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if err != nil { // the rest stays unread
			w.Header().Set("Connection", "close")
		}
	}()
	if r.ContentLength > rawstore.MaxBytes+maxUnknown {
		return errs.New(errs.TooLarge, "httpapi.rawUpload", "the file is larger than %d bytes", int64(rawstore.MaxBytes))
	}
	// Until its signature has been read a form is anybody's.
	begin := &beginning{ReadCloser: r.Body, left: maxUnknown}
	form := *r
	form.Body = begin
	parts, err := form.MultipartReader()
	if err != nil {
		return errs.Wrap(err, errs.Invalid, "httpapi.rawUpload", "the body must be a form (multipart/form-data)")
	}
	fields := map[string]string{}
	for range maxFields + 1 {
		part, err := parts.NextPart()
		if err == io.EOF {
			return errs.New(errs.Invalid, "httpapi.rawUpload", "the form has no file")
		}
		if err != nil {
			return formBroken(err)
		}
		if part.FormName() == "file" {
			begin.left = math.MaxInt64 // it is looked at before the file is read
			if fields["key"] == "" {
				return errs.New(errs.Invalid, "httpapi.rawUpload", "the form has no field key before its file")
			}
			if err := a.Raw.Accept(r.Context(), fields, &lastPart{part, parts}); err != nil {
				return err
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		value, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return formBroken(err)
		}
		if len(value) > maxField {
			return errs.New(errs.Invalid, "httpapi.rawUpload", "a field of the form is longer than %d bytes", maxField)
		}
		fields[part.FormName()] = string(value)
	}
	return errs.New(errs.Invalid, "httpapi.rawUpload", "the form has more than %d fields before its file", maxFields)
}

// lastPart is the file of a form. It fails at its end where something follows, before
// the file is kept: nothing would look at that.
type lastPart struct {
	io.Reader
	form *multipart.Reader
}

// Read implements [io.Reader].
func (l *lastPart) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err != io.EOF {
		return n, err
	}
	switch next, err := l.form.NextPart(); {
	case err == nil && next.FormName() == "file":
		return n, errs.New(errs.Invalid, "httpapi.rawUpload", "the form has two files: send one")
	case err == nil:
		return n, errs.New(errs.Invalid, "httpapi.rawUpload", "the form has the field %q behind its file: fields come first", next.FormName())
	case err != io.EOF:
		return n, formBroken(err)
	}
	return n, io.EOF
}

func (a *api) rawPresign(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	// Clients send the address without escaping it, so a plus in it is one.
	address := strings.ReplaceAll(q.Get("url"), " ", "+")
	owner := q.Get("ownerid")
	if err := a.caller(r, auth.RawRead, owner); err != nil {
		return err
	}
	// It may have been handed out by another process, or under another name of the server.
	key, ok := rawstore.OwnKey(owner, address)
	if !ok {
		return errs.New(errs.Invalid, "httpapi.rawPresign", "the address is not one of an uploaded file of the owner's")
	}
	return writeJSON(w, http.StatusOK, map[string]string{"url": a.Raw.Presign(a.base(r).raw(), key)})
}

func (a *api) rawFile(w http.ResponseWriter, r *http.Request) error {
	key := r.PathValue("owner") + "/" + r.PathValue("name")
	q := r.URL.Query()
	if !a.Raw.MayRead(key, q.Get("expires"), q.Get("signature")) {
		return errs.New(errs.Forbidden, "httpapi.rawFile", "the address is not signed, or its time is over")
	}
	if err := a.Service.UploadShown(r.Context(), key); err != nil {
		return err
	}
	object, err := a.Raw.Open(r.Context(), key)
	if err != nil {
		return err
	}
	defer object.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", "attachment")
	readInPlace(h)
	http.ServeContent(&contentWriter{ResponseWriter: w}, r, "", object.ModTime(), object)
	return nil
}

// contentWriter gives what [http.ServeContent] refuses, such as a range behind the
// end, the form of all errors.
type contentWriter struct {
	http.ResponseWriter
	refused bool
}

func (c *contentWriter) WriteHeader(status int) {
	if status < http.StatusBadRequest {
		c.ResponseWriter.WriteHeader(status)
		return
	}
	c.refused = true
	c.Header().Del("Content-Disposition")
	writeError(c.ResponseWriter, status, strings.ToLower(http.StatusText(status)))
}

func (c *contentWriter) Write(b []byte) (int, error) {
	if c.refused {
		return len(b), nil
	}
	return c.ResponseWriter.Write(b)
}

// ReadFrom keeps the way by which the system sends a file itself.
func (c *contentWriter) ReadFrom(r io.Reader) (int64, error) {
	if c.refused {
		return 0, nil
	}
	return io.Copy(c.ResponseWriter, r)
}

// fileTypes are what published files are served as. Everything else is bytes: no
// owner's file is a page of ours.
var fileTypes = map[string]string{
	".csv": "text/csv; charset=utf-8", ".json": "application/json; charset=utf-8", ".zip": "application/zip", ".md": "text/plain; charset=utf-8",
}

func (a *api) packageFile(w http.ResponseWriter, r *http.Request) error {
	key := r.PathValue("key")
	object, err := a.Service.PackageFile(r.Context(), auth.FromRequest(r), key)
	if err != nil {
		return err
	}
	o, err := a.Packages.Open(r.Context(), object.Key)
	if err != nil {
		return err
	}
	defer o.Close()
	content, tag := io.ReadSeeker(o), object.SHA256
	if object.DatasetID != "" {
		if content, tag, err = a.descriptor(a.base(r), object.DatasetID, o); err != nil {
			return err
		}
	}
	h := w.Header()
	contentType, ok := fileTypes[strings.ToLower(path.Ext(key))]
	if !ok {
		contentType = "application/octet-stream"
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(key)}))
	}
	if parts := strings.Split(key, "/"); len(parts) > 3 && parts[3] == "archive" {
		// A source as its owner wrote it, in whatever encoding.
		contentType, _, _ = strings.Cut(contentType, ";")
	}
	readInPlace(h)
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	// Who may read can change, and what lies under "latest" too: caches ask each time.
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", varies)
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(&contentWriter{ResponseWriter: w}, r, "", o.ModTime(), content)
	return nil
}

// readInPlace lets pages of other origins read ranges of a file.
func readInPlace(h http.Header) {
	h.Set("Access-Control-Expose-Headers", "ETag, Content-Range, Accept-Ranges, Content-Length, Link")
}

// descriptor reads a descriptor and completes it. It returns the SHA-256 of the result
// too.
func (a *api) descriptor(b base, datasetID string, o io.Reader) (io.ReadSeeker, string, error) {
	body, err := io.ReadAll(o)
	if err == nil {
		body, err = a.Packages.DescriptorAt(b.packages(), datasetID, body)
	}
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(body)
	return bytes.NewReader(body), hex.EncodeToString(sum[:]), nil
}
