package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/httpapi"
	"github.com/datahq/specstore/internal/objstore"
	"github.com/datahq/specstore/internal/pkgstore"
	"github.com/datahq/specstore/internal/private"
	"github.com/datahq/specstore/internal/rawstore"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/service"
	"github.com/spf13/cobra"
)

func serveCommand(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API and run flows",
		Long: `Serve the API and run flows, until Ctrl-C or SIGTERM.

Everything lies in the data folder, which is made where it is missing. Flows that
were running when the server last ended, however it ended, go on.

Environment: DATABASE_URL, AUTH_SERVER, DPP_URL, SPECSTORE_RUNNER, SPECSTORE_DATA,
SPECSTORE_ADDR, SPECSTORE_PUBLIC_URL, SPECSTORE_WORKERS, SPECSTORE_FETCH_ALLOW,
SPECSTORE_RUN_TIMEOUT, SPECSTORE_RUN_MEMORY, SPECSTORE_RUN_DISK, SPECSTORE_MAX_SOURCE_BYTES,
SPECSTORE_UPDATE_TOKEN, SPECSTORE_ANONYMOUS_UPDATES, SPECSTORE_ANONYMOUS_STATUS,
SPECSTORE_TRASH, SPECSTORE_LEGACY_TZ, SPECSTORE_LOG; with a pipelines service SPECSTORE_DPP_STYLE, SPECSTORE_DPP_TIMEOUT
and SPECSTORE_DPP_PROCESSORS, and for its plans PKGSTORE_BUCKET, PLANNER_LOCAL,
S3_ENDPOINT_URL and AWS_*. Flags win.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := serverConfig(env, cmd)
			if err != nil {
				return exit(exitUsage, err)
			}
			return serve(cmd.Context(), env, c)
		},
	}
	dataFlag(cmd)
	f := cmd.Flags()
	f.String("addr", "127.0.0.1:8000", "`address` to listen on (SPECSTORE_ADDR); port 0 takes a free one")
	f.String("public-url", "", "base `URL` of the addresses that are handed out (SPECSTORE_PUBLIC_URL); without it that of each request")
	f.String("log", "text", "`format` of the log, text or json (SPECSTORE_LOG)")
	f.Bool("no-workers", false, "serve the API and run no flows")
	return cmd
}

const (
	drainTime   = 5 * time.Second // for requests when the server stops
	releaseTime = 2 * time.Second // for runs to end by themselves before they are stopped
)

// serve wires a server and runs it until ctx ends.
func serve(ctx context.Context, env *Env, c *config) (err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return exit(exitUsage, errs.Wrap(err, errs.Invalid, "cli.serve", "cannot listen on %s: %s", c.addr, reason(err)))
	}
	defer listener.Close()
	local := localURL(listener.Addr())
	handedOut := c.publicURL // nothing: by which each request came
	if c.publicURL == "" {
		c.publicURL = local
	}
	p, err := c.start(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(ctx)) }()
	log, parts := p.log, p.parts
	server := httpapi.NewServer(httpapi.Config{
		Service: p.service, Events: parts.Registry, Packages: parts.Packages, Raw: parts.Raw, Verifier: parts.Verifier, Issuer: parts.issuer, AuthServer: parts.authServer,
		PublicURL: handedOut, LocalURL: local, UpdateToken: c.updateToken, AnonymousUpdates: c.anonymousUpdates, Ready: p.ready, Stopping: ctx.Done(), Now: env.Now, Log: log,
	})
	info, err := json.Marshal(serverInfo{URL: local, PID: os.Getpid()})
	if err != nil {
		return err
	}
	if err := private.Write(serverFile(c.data), info); err != nil {
		return err
	}
	defer os.Remove(serverFile(c.data))
	if c.runner == registry.DPP && c.updateToken == "" {
		log.WarnContext(ctx, "SPECSTORE_UPDATE_TOKEN is not set: the plugin of the pipelines service cannot list what there is to run")
	}
	if handedOut == "" && !isLoopback(listener.Addr()) {
		log.WarnContext(ctx, "SPECSTORE_PUBLIC_URL is not set: the addresses that are handed out begin with whatever host a request names", "addr", listener.Addr().String())
	}
	log.InfoContext(ctx, "serving", "url", c.publicURL, "data", c.data, "workers", c.workers, "waiting", p.waiting)

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.InfoContext(ctx, "stopping")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// reason is the last cause of a network error, which is the one that users know.
func reason(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(addr net.Addr) bool {
	host, _, err := net.SplitHostPort(addr.String())
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// localURL is the address by which this machine reaches the server.
func localURL(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// parts are what a service is made of, and the issuer where it is embedded.
type parts struct {
	service.Parts
	issuer     *auth.Issuer
	authServer httpapi.AuthServer // where the issuer is nil
	places     runner.Places      // where runs read and write
	stores     []objstore.Store   // of uploaded files and of packages
}

func (c *config) parts(ctx context.Context, env *Env, store *registry.Store) (*parts, error) {
	secret, err := store.Setting(ctx, "signing-secret", func() (string, error) {
		b := make([]byte, 32)
		_, err := rand.Read(b)
		return hex.EncodeToString(b), err
	})
	if err != nil {
		return nil, err
	}
	p := &parts{}
	var keys auth.Keys
	if c.authServer == "" {
		if p.issuer, err = embeddedIssuer(ctx, store); err != nil {
			return nil, err
		}
		keys = p.issuer
	} else {
		remote, err := auth.NewRemoteKeys(c.authServer, nil)
		if err != nil {
			return nil, exit(exitUsage, err)
		}
		keys, p.authServer, p.Profiles = remote, remote, remote
	}
	if _, err := newFetch(env); err != nil {
		return nil, exit(exitUsage, err)
	}
	raw, err := objstore.OpenLocal(filepath.Join(c.data, "rawstore"))
	if err != nil {
		return nil, err
	}
	packages, err := objstore.OpenLocal(filepath.Join(c.data, "pkgstore"))
	if err != nil {
		return nil, err
	}
	bases, err := rawBases(ctx, store, c.publicURL)
	if err != nil {
		return nil, err
	}
	p.stores = []objstore.Store{raw, packages}
	host, _ := os.Hostname()
	p.Parts = service.Parts{
		Profiles: p.Profiles, Runner: c.runner, Plans: c.plans, Processors: c.processors, PublicURL: c.publicURL,
		Registry: store, Verifier: &auth.Verifier{Keys: keys, Now: env.Now},
		Raw: rawstore.New(raw, []byte(secret), env.Now).WithLedger(store), Trash: c.trash, Packages: pkgstore.New(packages, c.publicURL+"/pkgstore"),
		RawBases: bases, Secret: []byte(secret), Now: env.Now,
		Holder: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), strings.ToLower(rand.Text()[:6])),
	}
	if c.dpp != nil {
		p.DPP, p.Silence = c.dpp, c.silence
	}
	p.places = runner.Places{
		RawStore: runner.FolderURL(filepath.Join(c.data, "rawstore")), Packages: runner.FolderURL(filepath.Join(c.data, "pkgstore")),
		RawBases: bases, Fetch: fetchConfig(env),
	}
	return p, nil
}

// rawBases notes the address that the server is known by and gives all that it ever
// was, this one first.
func rawBases(ctx context.Context, store *registry.Store, publicURL string) ([]string, error) {
	const prefix = "public-url "
	if _, err := store.Setting(ctx, prefix+publicURL, func() (string, error) { return "", nil }); err != nil {
		return nil, err
	}
	known, err := store.SettingNames(ctx, prefix)
	if err != nil {
		return nil, err
	}
	bases := []string{publicURL + "/rawstore/o"}
	for _, u := range known {
		if u != publicURL {
			bases = append(bases, u+"/rawstore/o")
		}
	}
	return bases, nil
}

const issuerSetting = "issuer-key"

// embeddedIssuer signs with the key that the database holds.
func embeddedIssuer(ctx context.Context, store *registry.Store) (*auth.Issuer, error) {
	key, err := store.Setting(ctx, issuerSetting, auth.GenerateKey)
	if err != nil {
		return nil, err
	}
	return auth.NewIssuer(key)
}
