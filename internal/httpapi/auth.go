package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
)

// AuthServer is another server that issues tokens.
type AuthServer interface {
	Forward(ctx context.Context, name string, query url.Values, header http.Header) (*auth.Answer, error)
}

// forward hands a request on to the auth server, and its answer back.
func (a *api) forward(w http.ResponseWriter, r *http.Request, name string) error {
	answer, err := a.AuthServer.Forward(r.Context(), name, r.URL.Query(), r.Header)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", answer.ContentType)
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the reader has gone
	return nil
}

// profile tells who an owner of published datasets is, by name or ID.
func (a *api) profile(w http.ResponseWriter, r *http.Request) error {
	if a.Issuer == nil {
		return a.forward(w, r, "get_profile")
	}
	owner, err := a.Service.Owner(r.Context(), r.URL.Query().Get("username"))
	if errs.Is(err, errs.NotFound) {
		return writeJSON(w, http.StatusOK, map[string]any{"found": false})
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"found": true,
		"profile": map[string]any{
			"id": owner.ID, "name": owner.Name, "join_date": stamp(owner.Since), "avatar_url": nil, "gravatar": nil,
		},
	})
}

// publicKey gives the key that tokens are checked with.
func (a *api) publicKey(w http.ResponseWriter, r *http.Request) error {
	if a.Issuer == nil {
		return a.forward(w, r, "public-key")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, a.Issuer.PublicKeyPEM())
	return nil
}

// check tells who a token stands for.
func (a *api) check(w http.ResponseWriter, r *http.Request) error {
	if a.Issuer == nil {
		return a.forward(w, r, "check")
	}
	caller, err := a.Verifier.Verify(r.Context(), auth.FromRequest(r))
	if errs.Is(err, errs.Unavailable) {
		return err
	}
	if err != nil {
		return writeJSON(w, http.StatusOK, map[string]any{"authenticated": false, "providers": map[string]any{}})
	}
	name := caller.UserName
	if name == "" {
		name = caller.UserID
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"authenticated": true, "profile": map[string]string{"id": caller.UserID, "username": name, "name": name},
	})
}

// authorize swaps a user token for one of a service.
func (a *api) authorize(w http.ResponseWriter, r *http.Request) error {
	if a.Issuer == nil {
		return a.forward(w, r, "authorize")
	}
	caller, err := a.Verifier.Verify(r.Context(), auth.FromRequest(r))
	if err != nil {
		return err
	}
	service := r.URL.Query().Get("service")
	token, err := a.Issuer.Authorize(caller, service, a.Now())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"token": token, "userid": caller.UserID, "service": service,
		"permissions": map[string]int{"max_dataset_num": caller.MaxDatasets},
	})
}
