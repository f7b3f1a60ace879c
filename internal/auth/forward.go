package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/datahq/specstore/internal/errs"
)

// maxForwarded bounds an answer of the auth server that is handed on, in bytes.
const maxForwarded = 1 << 20

// Answer is what an auth server said.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// Forward asks the auth server what somebody asked this one: a path below /auth/, its
// query, and of its header what says who asks. Cookies and addresses stay here. An
// answer is JSON or plain text of at most 1 MiB, whatever its status; anything else,
// a redirect to another host, and a server that is away give Unavailable.
func (k *RemoteKeys) Forward(ctx context.Context, name string, query url.Values, header http.Header) (*Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, errors.New("the auth server took too long"))
	defer cancel()
	a, err := k.forward(ctx, name, query, header)
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "auth.Forward", "The auth server does not answer; try again later")
	}
	return a, nil
}

// OwnerID returns the ID of the user whose profile has a name, "" where there is none.
// It fails with Unavailable where the auth server does not say it.
func (k *RemoteKeys) OwnerID(ctx context.Context, name string) (string, error) {
	const op = "auth.OwnerID"
	a, err := k.Forward(ctx, "get_profile", url.Values{"username": {name}}, nil)
	if err != nil {
		return "", err
	}
	var answer struct {
		Found   bool `json:"found"`
		Profile struct {
			ID string `json:"id"`
		} `json:"profile"`
	}
	switch err := json.Unmarshal(a.Body, &answer); {
	case a.Status == http.StatusNotFound, a.Status == http.StatusOK && err == nil && !answer.Found:
		return "", nil
	case a.Status == http.StatusOK && err == nil && answer.Profile.ID != "":
		return answer.Profile.ID, nil
	}
	return "", errs.New(errs.Unavailable, op, "The auth server does not say whose the name is; try again later")
}

func (k *RemoteKeys) forward(ctx context.Context, name string, query url.Values, header http.Header) (*Answer, error) {
	u := k.base.JoinPath("auth", name)
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range []string{"Auth-Token", "Authorization", "Accept"} {
		if v := header.Get(h); v != "" {
			request.Header.Set(h, v)
		}
	}
	res, err := k.client.Do(request)
	if err != nil {
		// The cause of an error of a client shows the address with its query, a token in it.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	contentType := res.Header.Get("Content-Type")
	if kind, _, _ := mime.ParseMediaType(contentType); kind != "application/json" && kind != "text/plain" {
		return nil, fmt.Errorf("it answers %s with %q", res.Status, kind)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxForwarded+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxForwarded {
		return nil, fmt.Errorf("it answers with more than %d bytes", maxForwarded)
	}
	return &Answer{res.StatusCode, contentType, body}, nil
}
