package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/datahq/specstore/internal/dpp"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/plan"
	"github.com/datahq/specstore/internal/private"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/runner"
	"github.com/datahq/specstore/internal/service"
	"github.com/datahq/specstore/internal/weburl"
	"github.com/spf13/cobra"
)

// config is what a server is told, checked once at its start.
type config struct {
	data        string // folder, absolute
	addr        string
	databaseURL string
	authServer  string
	publicURL   string
	updateToken string
	workers     int
	limits      runner.Limits // of each run
	trash       time.Duration // that what was deleted can be restored for
	logFormat   string
	redact      bool
	// anonymousUpdates allows updates without a token to programs of this machine.
	anonymousUpdates bool
	runner           registry.Runner
	dpp              *dpp.Client   // nil where there is no such service
	silence          time.Duration // that it may keep
	plans            plan.Settings // for it
	processors       []string      // that specs may name to it; "*" is any
	// legacyZone is that of the times in a database of the original; nil is the machine's.
	legacyZone *time.Location
}

// variable gives a flag's value where it was set, else the environment's, else def.
func variable(env *Env, cmd *cobra.Command, flag, name, def string) string {
	if flag != "" {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
			return f.Value.String()
		}
	}
	if v := env.Getenv(name); v != "" {
		return v
	}
	return def
}

func dataFlag(cmd *cobra.Command) {
	cmd.Flags().String("data", ".specstore", "`folder` of the database, files and temporary files (SPECSTORE_DATA)")
}

// notYet are settings that are planned and that nothing reads: to be set without any effect
// would be worse than to be refused.
var notYet = []string{
	"SPECSTORE_RAWSTORE_URL", "SPECSTORE_PKGSTORE_URL", "SPECSTORE_CDN_URL", "SPECSTORE_METRICS_ADDR", "SPECSTORE_MAX_OWNER_BYTES",
	"SPECSTORE_KEEP_REVISIONS", "DATABASE_READ_URL",
}

func serverConfig(env *Env, cmd *cobra.Command) (*config, error) {
	c := &config{
		data:        env.path(variable(env, cmd, "data", "SPECSTORE_DATA", ".specstore")),
		addr:        variable(env, cmd, "addr", "SPECSTORE_ADDR", "127.0.0.1:8000"),
		databaseURL: env.Getenv("DATABASE_URL"),
		authServer:  env.Getenv("AUTH_SERVER"),
		publicURL:   strings.TrimRight(variable(env, cmd, "public-url", "SPECSTORE_PUBLIC_URL", ""), "/"),
		updateToken: env.Getenv("SPECSTORE_UPDATE_TOKEN"),
		logFormat:   variable(env, cmd, "log", "SPECSTORE_LOG", "text"),
		processors:  list(env.Getenv("SPECSTORE_DPP_PROCESSORS")),
	}
	wrong := func(name, format string, args ...any) error {
		return errs.New(errs.Invalid, "cli.config", name+": "+format, args...)
	}
	for _, name := range notYet {
		if env.Getenv(name) != "" {
			return nil, wrong(name, "this version has no such setting yet; leave it unset")
		}
	}
	if c.databaseURL == "" {
		c.databaseURL = "sqlite:///" + filepath.ToSlash(filepath.Join(c.data, "registry.db"))
	}
	if !isAddress(c.addr) {
		return nil, wrong("SPECSTORE_ADDR", "%s is not an address such as 127.0.0.1:8000", weburl.Setting(c.addr))
	}
	if err := errors.Join(checkURL("SPECSTORE_PUBLIC_URL", c.publicURL), checkURL("S3_ENDPOINT_URL", env.Getenv("S3_ENDPOINT_URL"))); err != nil {
		return nil, err
	}
	workers := variable(env, cmd, "", "SPECSTORE_WORKERS", strconv.Itoa(runtime.NumCPU()))
	n, err := strconv.Atoi(workers)
	if err != nil || n < 0 || n > 1024 {
		return nil, wrong("SPECSTORE_WORKERS", "%q is not a number of flows from 0 to 1024", workers)
	}
	c.workers = n
	if off, _ := cmd.Flags().GetBool("no-workers"); off {
		c.workers = 0
	}
	if c.limits, err = runLimits(env); err != nil {
		return nil, err
	}
	if c.limits.Time > longestRun {
		return nil, wrong("SPECSTORE_RUN_TIMEOUT", "%s is more than 23h, which is the most that a server has for a run", c.limits.Time)
	}
	if c.trash, err = trashTime(env); err != nil {
		return nil, err
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		return nil, wrong("SPECSTORE_LOG", "%q is neither text nor json", c.logFormat)
	}
	switch v := variable(env, cmd, "", "SPECSTORE_ANONYMOUS_STATUS", "hidden"); v {
	case "hidden":
	case "redacted":
		c.redact = true
	default:
		return nil, wrong("SPECSTORE_ANONYMOUS_STATUS", "%q is neither hidden nor redacted", v)
	}
	switch v := env.Getenv("SPECSTORE_ANONYMOUS_UPDATES"); {
	case v == "":
	case v != "loopback":
		return nil, wrong("SPECSTORE_ANONYMOUS_UPDATES", "%q is not loopback", v)
	case c.publicURL != "" && !weburl.Loopback(c.publicURL):
		return nil, wrong("SPECSTORE_ANONYMOUS_UPDATES", "a server that is known by an address beyond this machine takes no update without a token")
	default:
		c.anonymousUpdates = true
	}
	if zone := env.Getenv("SPECSTORE_LEGACY_TZ"); zone != "" {
		if c.legacyZone, err = time.LoadLocation(zone); err != nil {
			return nil, wrong("SPECSTORE_LEGACY_TZ", "%q is not a time zone such as Europe/London", zone)
		}
	}
	if err := c.chooseRunner(env, wrong); err != nil {
		return nil, err
	}
	return c, nil
}

// isAddress reports whether a text is an IP address, localhost or nothing, and a port.
func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, badHost := netip.ParseAddr(host)
	_, badPort := strconv.ParseUint(port, 10, 16)
	return badPort == nil && (badHost == nil || host == "" || host == "localhost")
}

// checkURL checks a setting that is an http or https URL, or empty.
func checkURL(name, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errs.New(errs.Invalid, "cli.config", "%s: %s is not an http or https URL", name, weburl.Setting(text))
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return errs.New(errs.Invalid, "cli.config", "%s: the URL has more than a scheme, host, port and path", name)
	}
	return nil
}

// chooseRunner says who runs what is uploaded, and checks what that needs.
func (c *config) chooseRunner(env *Env, wrong func(name, format string, args ...any) error) error {
	dppURL := env.Getenv("DPP_URL")
	c.runner = registry.Runner(env.Getenv("SPECSTORE_RUNNER"))
	switch c.runner {
	case "":
		c.runner = registry.Embedded
		if dppURL != "" {
			c.runner = registry.DPP
		}
	case registry.Embedded, registry.External, registry.DPP:
	default:
		return wrong("SPECSTORE_RUNNER", "%q is none of embedded, external and dpp", c.runner)
	}
	if dppURL == "" && c.runner == registry.DPP {
		return wrong("DPP_URL", "the address of the pipelines service is needed by the runner dpp")
	}
	if dppURL == "" {
		return nil
	}
	style, err := dpp.ParseStyle(env.Getenv("SPECSTORE_DPP_STYLE"))
	if err != nil {
		return wrong("SPECSTORE_DPP_STYLE", "%s", errs.Detail(err))
	}
	if c.dpp, err = dpp.New(dppURL, style); err != nil {
		return wrong("DPP_URL", "%s", errs.Detail(err))
	}
	silence := variable(env, nil, "", "SPECSTORE_DPP_TIMEOUT", service.DefaultSilence.String())
	if c.silence, err = time.ParseDuration(silence); err != nil || c.silence < time.Second {
		return wrong("SPECSTORE_DPP_TIMEOUT", "%q is not a time of at least 1s such as 30m", silence)
	}
	if c.publicURL == "" {
		return wrong("SPECSTORE_PUBLIC_URL", "with DPP_URL the pipelines service must know where to send its updates")
	}
	if c.plans = planSettings(env); env.Getenv("PKGSTORE_BUCKET") == "" && env.Getenv("PLANNER_LOCAL") == "" {
		return wrong("PKGSTORE_BUCKET", "with DPP_URL a bucket for the pipelines' outputs is needed, or PLANNER_LOCAL")
	}
	return nil
}

const (
	leastMemory = 64 << 20       // bytes, for the program itself
	longestRun  = 23 * time.Hour // the ticket of a run is good for a day
)

// runLimits reads the limits of a run; what is not set is zero, which is the default.
func runLimits(env *Env) (l runner.Limits, err error) {
	if v := env.Getenv("SPECSTORE_RUN_TIMEOUT"); v != "" {
		if l.Time, err = time.ParseDuration(v); err != nil || l.Time <= 0 {
			return l, errs.New(errs.Invalid, "cli.runLimits", "SPECSTORE_RUN_TIMEOUT: %q is not a time such as 90m or 6h", v)
		}
	}
	for _, s := range []struct {
		name  string
		least int64
		to    *int64
	}{
		{"SPECSTORE_RUN_MEMORY", leastMemory, &l.Memory}, {"SPECSTORE_RUN_DISK", 1, &l.Disk}, {"SPECSTORE_MAX_SOURCE_BYTES", 1, &l.Source},
	} {
		v := env.Getenv(s.name)
		if v == "" {
			continue
		}
		if *s.to, err = runner.ParseSize(v); err != nil {
			return l, errs.Wrap(err, errs.Invalid, "cli.runLimits", "%s: %s", s.name, errs.Detail(err))
		}
		if *s.to < s.least {
			return l, errs.New(errs.Invalid, "cli.runLimits", "%s: %q is less than %s, which the program itself needs", s.name, v, runner.Size(s.least))
		}
	}
	return l, nil
}

// trashTime reads how long what was deleted can be restored. Zero is as short as can be.
func trashTime(env *Env) (time.Duration, error) {
	v := env.Getenv("SPECSTORE_TRASH")
	if v == "" {
		return service.DefaultTrash, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, errs.New(errs.Invalid, "cli.trashTime", "SPECSTORE_TRASH: %q is not a time such as 24h or 168h", v)
	}
	return max(d, 1), nil
}

// list reads a variable of words separated by commas.
func list(value string) []string {
	var out []string
	for word := range strings.SplitSeq(value, ",") {
		if word = strings.TrimSpace(word); word != "" {
			out = append(out, word)
		}
	}
	return out
}

// embeddedDatabase reports whether the database is a file of this machine.
func (c *config) embeddedDatabase() bool { return strings.HasPrefix(c.databaseURL, "sqlite") }

func (c *config) logger(env *Env) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(env.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(env.Stderr, o))
}

// serverInfo is what a running server leaves in its data folder for commands on
// the same machine.
type serverInfo struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
}

func serverFile(data string) string { return filepath.Join(data, "server.json") }

// errNoServer is that no server runs on a data folder.
var errNoServer = errors.New("no server runs on the data folder")

// readServerInfo finds the server of a data folder. It is only believed where nobody else
// than this user can have written it, and where the server is on this machine: what a
// command sends it is signed with the folder's key.
func readServerInfo(data string) (*serverInfo, error) {
	refused := func(format string, args ...any) error {
		return errs.New(errs.Invalid, "cli.server", "%s: %s; name the server by --server", serverFile(data), fmt.Sprintf(format, args...))
	}
	f, err := os.OpenFile(serverFile(data), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoServer
	}
	if err != nil {
		return nil, refused("it cannot be opened, or is a link")
	}
	defer f.Close()
	for path, stat := range map[string]func() (fs.FileInfo, error){
		"it":                    f.Stat,
		"the folder it lies in": func() (fs.FileInfo, error) { return os.Stat(data) },
	} {
		info, err := stat()
		switch {
		case err != nil:
			return nil, refused("%s cannot be looked at", path)
		case !private.Own(info):
			return nil, refused("%s belongs to another user", path)
		case info.Mode().Perm()&0o022 != 0:
			return nil, refused("others may write to %s", path)
		case path == "it" && !info.Mode().IsRegular():
			return nil, refused("it is not a file")
		}
	}
	var info serverInfo
	if err := json.NewDecoder(io.LimitReader(f, maxServerInfo)).Decode(&info); err != nil || info.URL == "" {
		return nil, refused("it names no server")
	}
	if !weburl.Loopback(info.URL) {
		return nil, refused("the server it names is not on this machine")
	}
	return &info, nil
}

const maxServerInfo = 4096 // bytes
