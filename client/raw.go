package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// File describes a file that is to be uploaded.
type File struct {
	Name   string `json:"name"`
	Length int64  `json:"length"`         // bytes
	MD5    string `json:"md5"`            // of its bytes, base64 (RFC 4648, section 4)
	Type   string `json:"type,omitempty"` // media type
}

// DescribeFile reads a file to its end and describes it.
func DescribeFile(path string) (File, error) {
	file, _, err := openFile(path)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	return Describe(filepath.Base(path), file)
}

// openFile opens a regular file. A pipe or a device is refused, and not waited for.
func openFile(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// Describe reads r to its end and describes what it read.
func Describe(name string, r io.Reader) (File, error) {
	sum := md5.New() // the contract's: the server keeps a SHA-256 beside it
	length, err := io.Copy(sum, r)
	if err != nil {
		return File{}, err
	}
	return File{Name: name, Length: length, MD5: base64.StdEncoding.EncodeToString(sum.Sum(nil))}, nil
}

// RawUpload is the server's leave to upload a file.
type RawUpload struct {
	URL    string            `json:"upload_url"`
	Fields map[string]string `json:"upload_query"` // sent before the file, "key" among them
	Exists bool              `json:"exists"`       // the server has this file already
}

// ObjectURL is the address of the uploaded file, as a Flow-Spec names it and
// as [Client.Presign] takes it.
func (u RawUpload) ObjectURL() string { return u.URL + "/" + u.Fields["key"] }

// AuthorizeRaw asks for leave to upload files, given by their paths in the
// package. The answer has the same paths. The token must be one for the service
// "rawstore" or "source".
func (c *Client) AuthorizeRaw(ctx context.Context, owner string, files map[string]File) (map[string]RawUpload, error) {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]string{"owner": owner},
		"filedata": files,
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Files map[string]RawUpload `json:"filedata"`
	}
	// Leave given twice is leave given once.
	_, err = c.json(ctx, call{method: http.MethodPost, path: []string{"rawstore", "authorize"}, body: body, repeats: true}, &answer)
	if err != nil {
		return nil, err
	}
	for path := range files {
		upload, ok := answer.Files[path]
		if !ok || upload.URL == "" || upload.Fields["key"] == "" {
			return nil, fmt.Errorf("the server gives no leave to upload %q", path)
		}
	}
	if len(answer.Files) != len(files) {
		return nil, errors.New("the server gives leave to upload files that nobody asked for")
	}
	return answer.Files, nil
}

// UploadRaw sends a file of size bytes to where the server gave leave. It reads
// body once and keeps none of it; a body that is shorter is an error, and of a
// longer one only size bytes are read. It uploads even where the file
// [RawUpload.Exists]. The request carries no token: its fields are signed.
func (c *Client) UploadRaw(ctx context.Context, upload RawUpload, name string, body io.Reader, size int64) error {
	answer, err := c.attempt(ctx, false, func() (*http.Response, error) {
		return c.form(ctx, upload, name, body, size)
	})
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// UploadRawFile sends a file as [Client.UploadRaw] does, and once more from its
// start where the network fails: the same bytes under the same key are one file.
func (c *Client) UploadRawFile(ctx context.Context, upload RawUpload, path string) error {
	file, size, err := openFile(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return c.UploadRawAt(ctx, upload, filepath.Base(path), file, size)
}

// UploadRawAt sends size bytes as [Client.UploadRaw] does, and once more from the
// beginning where the server does not answer.
func (c *Client) UploadRawAt(ctx context.Context, upload RawUpload, name string, body io.ReaderAt, size int64) error {
	answer, err := c.attempt(ctx, true, func() (*http.Response, error) {
		// A reader of its own: the transport may still hold the last one.
		return c.form(ctx, upload, name, io.NewSectionReader(body, 0, size), size)
	})
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// form posts multipart/form-data (RFC 7578): the fields, then the file, as S3's
// browser uploads want it. All but the file is made in memory, so that the
// length of the whole is known beforehand.
func (c *Client) form(ctx context.Context, upload RawUpload, name string, body io.Reader, size int64) (*http.Response, error) {
	target, err := url.Parse(upload.URL)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Hostname() == "" {
		return nil, errors.New("the server sends files to an address that is not http or https")
	}
	if size < 0 {
		return nil, errors.New("client: a file of a negative size")
	}
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	for _, field := range slices.Sorted(maps.Keys(upload.Fields)) {
		if err := form.WriteField(field, upload.Fields[field]); err != nil {
			return nil, err
		}
	}
	kind := upload.Fields["Content-Type"]
	if kind == "" {
		kind = "application/octet-stream"
	}
	_, err = form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("file", name)},
		"Content-Type":        {kind},
	})
	if err != nil {
		return nil, err
	}
	head := frame.Len()
	if err := form.Close(); err != nil {
		return nil, err
	}
	whole := frame.Bytes()
	stream := io.MultiReader(bytes.NewReader(whole[:head]), &exactly{body, size}, bytes.NewReader(whole[head:]))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, upload.URL, io.NopCloser(stream))
	if err != nil {
		return nil, err
	}
	request.ContentLength = int64(len(whole)) + size
	request.Header.Set("Content-Type", form.FormDataContentType())
	return c.http.Do(request)
}

// exactly reads left bytes of r, and fails where r has fewer: the form must not
// be closed after half a file, which a server would take for a whole one.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF {
		if e.left > 0 {
			return n, fmt.Errorf("the file is %d bytes shorter than it was said to be", e.left)
		}
		err = nil // the next call says so
	}
	return n, err
}

// Presign gives an address of an uploaded file that anybody can read for some
// hours. The token must be one for the service "rawstore", "source" or
// "frontend".
func (c *Client) Presign(ctx context.Context, owner, rawURL string) (string, error) {
	var answer struct {
		URL string `json:"url"`
	}
	_, err := c.json(ctx, call{
		method: http.MethodGet, path: []string{"rawstore", "presign"},
		query: url.Values{"ownerid": {owner}, "url": {rawURL}}, repeats: true,
	}, &answer)
	if err != nil {
		return "", err
	}
	if answer.URL == "" {
		return "", errors.New("the server gives no address for the file")
	}
	return answer.URL, nil
}
