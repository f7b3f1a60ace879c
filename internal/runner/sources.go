package runner

import (
	"context"
	"io"
	"strings"

	"github.com/datahq/specstore/internal/engine"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/weburl"
)

// sources opens the sources of an owner's flow.
type sources struct {
	*stores
	bases   []string // of addresses of uploaded files
	ownerID string
}

// RawKey finds the key of an uploaded file in an address that begins with one of the
// bases.
func RawKey(bases []string, address string) (string, bool) {
	for _, base := range bases {
		if key, ok := rawstore.KeyOf(base, address); ok {
			return key, true
		}
	}
	return "", false
}

// Open reads uploaded files from their store and everything else through the guarded
// client.
func (o *sources) Open(ctx context.Context, address string) (io.ReadCloser, engine.SourceInfo, error) {
	if key, ok := RawKey(o.bases, address); ok {
		body, info, err := o.uploaded(ctx, key, address)
		if errs.Is(err, errs.NotFound) {
			err = errs.Wrap(err, errs.Invalid, "runner.Open", "the file was not uploaded")
		}
		return body, info, err
	}
	// Another process hands out addresses that this one has not heard of.
	if key, ok := rawstore.OwnKey(o.ownerID, address); ok {
		body, info, err := o.uploaded(ctx, key, address)
		if !errs.Is(err, errs.NotFound) {
			return body, info, err
		}
	}
	body, info, err := o.fetch.Open(ctx, address)
	if err != nil {
		return nil, engine.SourceInfo{}, err
	}
	scheme, _, _ := strings.Cut(address, ":")
	return body, engine.SourceInfo{Size: info.Size, Name: info.URL, Scheme: scheme}, nil
}

// uploaded opens an uploaded file, which an address names. It fails with NotFound.
func (o *sources) uploaded(ctx context.Context, key, address string) (io.ReadCloser, engine.SourceInfo, error) {
	if !rawstore.Owned(key, o.ownerID) {
		return nil, engine.SourceInfo{}, errs.New(errs.Forbidden, "runner.Open", "the uploaded file is another owner's")
	}
	object, err := o.raw.Open(ctx, key)
	if err != nil {
		return nil, engine.SourceInfo{}, err
	}
	info := engine.SourceInfo{Size: object.Size(), Name: weburl.Bare(address), Scheme: "file"}
	if info.SHA256, err = o.raw.SHA256(ctx, key); err != nil {
		info.SHA256 = "" // it shows when the bytes are read
	}
	return object, info, nil
}
