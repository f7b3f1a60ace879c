// Package httpapi is the service over HTTP: the contract of DataHub's Spec Store,
// and the routes that a push needs.
//
// A handler gives an error or writes an answer; one adaptor turns errors into
// status, body and log line, so that a failure looks the same on every route and
// users never read more than its detail. Bodies are bounded and nothing that is as
// long as a file is held in memory.
package httpapi

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/weburl"
)

// Service is what the routes ask of the service.
type Service interface {
	Upload(ctx context.Context, token string, body []byte, idempotencyKey string) (*service.Accepted, error)
	DryRun(ctx context.Context, token string, body []byte) ([]plan.Pipeline, error)
	Status(ctx context.Context, token, datasetID, which string) (*registry.Revision, error)
	Standing(ctx context.Context, token, datasetID, which string) (*registry.Revision, error)
	Update(ctx context.Context, e registry.Event) (registry.Applied, error)
	UpdateToken(flowID string) string
	Cancel(ctx context.Context, token, datasetID, which string) (registry.State, error)
	Retry(ctx context.Context, token, datasetID, which string) (bool, error)
	Delete(ctx context.Context, token, datasetID string) error
	Erase(ctx context.Context, token, datasetID string) (done bool, err error)
	Restore(ctx context.Context, token, datasetID string) error
	UploadShown(ctx context.Context, key string) error
	Datasets(ctx context.Context, token, ownerID, after string, limit int) ([]registry.Dataset, error)
	Revisions(ctx context.Context, token, datasetID string, before int64, limit int) ([]registry.RevisionInfo, *registry.Schedule, error)
	Plan(ctx context.Context, token, datasetID, which string) ([]plan.Pipeline, error)
	PipelineLog(ctx context.Context, token, datasetID, which, name string) ([]string, error)
	Report(ctx context.Context, token, datasetID, which string) (object string, err error)
	Diff(ctx context.Context, token, datasetID, from, to string) (*service.Diff, error)
	Owner(ctx context.Context, name string) (*registry.Owner, error)
	PackageFile(ctx context.Context, token, path string) (*service.PackageFile, error)
	OpenPipelines(ctx context.Context, fn func(id string, details json.RawMessage) error) error
}

// Events are the changes of flows.
type Events interface {
	Events(ctx context.Context, flowID string, after int64) ([]registry.StoredEvent, error)
	Watch(flowID string) (changes <-chan struct{}, cancel func())
}

// Files opens objects of the package store.
type Files interface {
	Open(ctx context.Context, key string) (objstore.Object, error)
	// DescriptorAt completes the paths of a descriptor of a dataset, below the base of the
	// public route.
	DescriptorAt(base, datasetID string, body []byte) ([]byte, error)
}

// Config is what the routes are made of.
type Config struct {
	Service  Service
	Events   Events
	Packages Files
	Raw      *rawstore.Store
	Verifier *auth.Verifier
	// Issuer signs tokens; where it is nil AuthServer does.
	Issuer     *auth.Issuer
	AuthServer AuthServer
	// PublicURL is the base of the addresses that are handed out; where it is empty it is
	// that of each request, by scheme and Host. No header that a proxy adds is read.
	PublicURL string
	// LocalURL is the base for requests whose Host is none.
	LocalURL string
	// UpdateToken is the operators' for updates; empty where there is none.
	UpdateToken string
	// AnonymousUpdates allows updates without a token to programs of this machine.
	AnonymousUpdates bool
	// Ready fails where the database or the stores of files do not work, by the end of its
	// context. What it fails with is for the log alone; nil is that they do.
	Ready func(context.Context) error
	// Stopping ends streams when the server stops.
	Stopping <-chan struct{}
	Now      func() time.Time
	Log      *slog.Logger
}

type api struct {
	Config
	buffers        sync.Pool // of *writer
	known, unknown room      // for bodies whose caller is known, and for the others
	computing      pool      // of maxComputing
	readiness      readiness
	answers        pool // of maxAnswers
	long           longStatuses
	watchers       watchers
	streams        sync.WaitGroup // of watchers that took their connections over
}

// MaxSpec is the largest Flow-Spec in bytes.
const MaxSpec = 16 << 20

// route is a pattern of [http.ServeMux] and what answers it.
type route struct {
	pattern string
	handle  func(http.ResponseWriter, *http.Request) error
}

// routes are all there are; openapi.yaml describes each.
func (a *api) routes() []route {
	return []route{
		{"GET /source/{owner}", a.datasets},
		{"GET /source/{owner}/{dataset}", a.revisions},
		{"DELETE /source/{owner}/{dataset}", a.delete},
		{"POST /source/{owner}/{dataset}/restore", a.restore},
		{"GET /source/{owner}/{dataset}/{revision}", a.status},
		{"GET /source/{owner}/{dataset}/{revision}/events", a.events},
		{"GET /source/{owner}/{dataset}/{revision}/plan", a.plan},
		{"GET /source/{owner}/{dataset}/{revision}/pipelines/{pipeline}/log", a.pipelineLog},
		{"GET /source/{owner}/{dataset}/{revision}/report", a.report},
		{"GET /source/{owner}/{dataset}/{revision}/diff/{other}", a.diff},
		{"POST /source/{owner}/{dataset}/{revision}/cancel", a.cancel},
		{"POST /source/{owner}/{dataset}/{revision}/retry", a.retry},
		{"POST /source/upload", a.upload},
		{"POST /source/update", a.update},
		{"POST /source/plan", a.dryRun},
		{"GET /source-pipelines", a.sourcePipelines},
		{"GET /auth/public-key", a.publicKey},
		{"GET /auth/check", a.check},
		{"GET /auth/authorize", a.authorize},
		{"GET /auth/get_profile", a.profile},
		{"POST /rawstore/authorize", a.rawAuthorize},
		{"POST /rawstore/o", a.rawUpload},
		{"GET /rawstore/o/{owner}/{name}", a.rawFile},
		{"GET /rawstore/presign", a.rawPresign},
		{"GET /pkgstore/{key...}", a.packageFile},
		{"GET /openapi.yaml", a.openapi},
		{"GET /schemas/{name}", a.schema},
		{"GET /healthz", a.health},
		{"GET /readyz", a.ready},
	}
}

// reserved are paths of the API under /source that no owner has.
var reserved = []string{"/source/upload", "/source/update", "/source/plan"}

// New gives the handler of all routes.
func New(c Config) http.Handler {
	_, h := newAPI(c)
	return h
}

func newAPI(c Config) (*api, http.Handler) {
	a := &api{Config: c}
	a.makeRoom()
	a.computing.left, a.answers.left = maxComputing, maxAnswers
	mux := http.NewServeMux()
	for _, r := range a.routes() {
		handle := a.handler(r.handle)
		if strings.Contains(r.pattern, "{owner}") {
			handle = unlessReserved(mux, handle)
		}
		mux.Handle(r.pattern, handle)
	}
	mux.Handle(everything, unrouted(mux))
	return a, keepRate(outer(mux))
}

// Server is a server of all routes.
type Server struct {
	*http.Server
	api *api
}

// NewServer returns a server of all routes with the bounds that one needs which strangers
// reach: of headers, of the time that they take, and of connections that are idle.
func NewServer(c Config) *Server {
	a, h := newAPI(c)
	return &Server{&http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}, a}
}

// Shutdown stops the server when its requests have ended, as [http.Server.Shutdown] does,
// and its streams, which end when [Config].Stopping does.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.Server.Shutdown(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.api.streams.Wait()
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *api) health(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyTime bounds what is looked at for /readyz, and is how long an answer holds: it has
// no token, and makes files.
const readyTime = time.Second

// readiness is what was last found out.
type readiness struct {
	mu  sync.Mutex // held while it is looked
	at  time.Time
	err error
}

// look returns what was found out a moment ago, or looks.
func (s *readiness) look(ctx context.Context, ready func(context.Context) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ready != nil && (s.at.IsZero() || time.Since(s.at) > readyTime) {
		// Others get the same answer: the look does not end with this request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
		defer cancel()
		s.err = ready(ctx)
		s.at = time.Now()
	}
	return s.err
}

// ready answers whether requests can be answered: the database answers, and the stores of
// files can be written.
func (a *api) ready(w http.ResponseWriter, r *http.Request) error {
	if err := a.readiness.look(r.Context(), a.Ready); err != nil {
		return errs.Wrap(err, errs.Unavailable, "httpapi.ready", "the server is not ready: its database or its stores of files do not work")
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// methods are those of the routes; the mux says which fit.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodDelete}

// everything is the pattern of what no route takes.
const everything = "/"

// allowed gives the methods that a path has, none where there is no such route.
func allowed(mux *http.ServeMux, r *http.Request) []string {
	var allow []string
	for _, m := range methods {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := mux.Handler(probe); pattern != everything && !isReserved(r, pattern) {
			allow = append(allow, m)
			if m == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
	}
	return allow
}

// isReserved reports whether a pattern took a word of the API for an owner.
func isReserved(r *http.Request, pattern string) bool {
	return strings.Contains(pattern, "{owner}") && slices.Contains(reserved, r.URL.Path)
}

// unlessReserved handles what has an owner in its path.
func unlessReserved(mux *http.ServeMux, h http.Handler) http.Handler {
	otherwise := unrouted(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(reserved, r.URL.Path) {
			otherwise.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// outer does what holds for every route: pages of any origin may read, nobody guesses
// content types, and nobody keeps an answer unless the route says so. A path in another
// spelling is not found, as with the original, where the mux would redirect.
func outer(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "no-store")
		if p := r.URL.Path; p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
			writeError(w, http.StatusNotFound, noRoute)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// unrouted says in JSON what is not found or not allowed, and what is.
func unrouted(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		allow := allowed(mux, r)
		switch {
		case len(allow) == 0:
			writeError(w, http.StatusNotFound, noRoute)
		case r.Method == http.MethodOptions:
			h.Set("Allow", strings.Join(append(allow, http.MethodOptions), ", "))
			if slices.Contains(allow, http.MethodGet) { // pages of other origins read, and do not write
				h.Set("Access-Control-Allow-Methods", "GET, HEAD")
				h.Set("Access-Control-Allow-Headers", "Auth-Token, Authorization, Last-Event-ID, Range, If-Range, If-None-Match")
				h.Set("Access-Control-Max-Age", "86400")
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			h.Set("Allow", strings.Join(append(allow, http.MethodOptions), ", "))
			writeError(w, http.StatusMethodNotAllowed, "the method is not allowed here")
		}
	})
}

// escapePath escapes a path for an address (RFC 3986, section 3.3): names have letters of
// any script.
func escapePath(path string) string {
	for i := range len(path) {
		if c := path[i]; c >= 0x80 || strings.IndexByte(" \"#%<>?[\\]^`{|}", c) >= 0 || c < ' ' || c == 0x7f {
			return (&url.URL{Path: path}).EscapedPath()
		}
	}
	return path // as nearly all are
}

// statuses turns a failure's kind into the status of its answer.
var statuses = map[errs.Kind]int{
	errs.Internal: http.StatusInternalServerError, errs.Invalid: http.StatusBadRequest, errs.Unauthorized: http.StatusUnauthorized,
	errs.Forbidden: http.StatusForbidden, errs.NotFound: http.StatusNotFound, errs.Conflict: http.StatusConflict,
	errs.TooLarge: http.StatusRequestEntityTooLarge, errs.Unavailable: http.StatusServiceUnavailable,
}

const (
	retryAfter = "5" // seconds, of what is unavailable
	noRoute    = "there is no such route"
)

func statusOf(err error) int {
	if errors.Is(err, errSlow) {
		return http.StatusRequestTimeout
	}
	if errors.Is(err, errWatchers) {
		return http.StatusTooManyRequests
	}
	return statuses[errs.KindOf(err)]
}

// handler turns what a route fails with into an answer, and logs each request once.
func (a *api) handler(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := a.Now()
		err := safely(h, w, r)
		status := http.StatusOK
		if err != nil {
			status = statusOf(err)
			a.fail(w, status, err)
		}
		level := slog.LevelDebug
		if status == http.StatusInternalServerError && r.Context().Err() == nil { // else the client has gone
			level = slog.LevelError
		}
		if !a.Log.Enabled(r.Context(), level) {
			return
		}
		a.Log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", status, "ms", a.Now().Sub(begun).Milliseconds(), "error", err)
	})
}

// safely turns a panic into a failure of its request alone.
func safely(h func(http.ResponseWriter, *http.Request) error, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			err = fmt.Errorf("httpapi: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h(w, r)
}

func (a *api) fail(w http.ResponseWriter, status int, err error) {
	switch status {
	case http.StatusRequestTimeout:
		w.Header().Set("Connection", "close") // RFC 9110, section 15.5.9
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", retryAfter)
	case http.StatusServiceUnavailable:
		// With it clients take for granted that nothing was done.
		if !errors.Is(err, errs.ErrUncertain) {
			w.Header().Set("Retry-After", retryAfter)
		}
	case http.StatusUnauthorized: // RFC 9110, section 11.6.1
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if u, ok := errors.AsType[*refusalError](err); ok {
		u.write(w, status)
		return
	}
	writeError(w, status, errs.Detail(err))
}

func writeError(w http.ResponseWriter, status int, message string) {
	_ = writeJSON(w, status, map[string]any{"error": map[string]string{"message": message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader has gone
	return nil
}

// isJSON reports whether a content type is one of JSON: application/json, or one
// with the suffix +json (RFC 6839), whatever its parameters.
func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	return t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")
}

// local reports whether an update may come without a token: where the operator allows
// it, from this machine, by an address of it and through nobody's hands. A proxy that
// adds no header looks the same, so that it is the operator who must allow it.
func (a *api) local(r *http.Request) bool {
	if !a.AnonymousUpdates || a.PublicURL != "" && !weburl.Loopback(a.PublicURL) || !weburl.LoopbackHost(r.Host) {
		return false
	}
	for name := range r.Header {
		name = http.CanonicalHeaderKey(name)
		if slices.Contains(relayed, name) || strings.HasPrefix(name, "X-Forwarded") || strings.HasPrefix(name, "Sec-Fetch-") {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// relayed are headers that a browser or a proxy adds, beside those that begin with
// X-Forwarded and Sec-Fetch-.
var relayed = []string{"Origin", "Forwarded", "X-Real-Ip", "Via"}

// mayUpdate checks who sends news of a flow. A token that is given must be right.
func (a *api) mayUpdate(r *http.Request, flowID string) bool {
	query := r.URL.Query()
	if query.Has("token") {
		return hmac.Equal([]byte(query.Get("token")), []byte(a.Service.UpdateToken(flowID)))
	}
	if len(r.Header.Values("Authorization")) > 0 {
		bearer, ok := bearerOf(r)
		return ok && a.UpdateToken != "" && hmac.Equal([]byte(bearer), []byte(a.UpdateToken))
	}
	return a.local(r)
}

// bearerOf gives the token that a request bears.
func bearerOf(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}
