package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/datahq/specstore/client"
	"github.com/datahq/specstore/internal/errs"
	"github.com/spf13/cobra"
)

// connection is what the commands that ask a server are told.
type connection struct{ server, token string }

func (c *connection) flags(cmd *cobra.Command) {
	dataFlag(cmd)
	cmd.Flags().StringVar(&c.server, "server", "", "base `URL` of the server (SPECSTORE_SERVER); absent: the one of the data folder, or with a token the default address")
	cmd.Flags().StringVar(&c.token, "token", "", "`token` to send (SPECSTORE_TOKEN)")
}

// connect makes a client. A token that is given goes to the server that is named, or to
// the default address, and to no server that is found. Without one, a command that finds
// the server of its data folder signs for itself.
func (c *connection) connect(ctx context.Context, env *Env, cmd *cobra.Command) (*client.Client, error) {
	server := variable(env, cmd, "server", "SPECSTORE_SERVER", "")
	token := variable(env, cmd, "token", "SPECSTORE_TOKEN", "")
	conf, err := serverConfig(env, cmd)
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	if token == "" {
		found, err := readServerInfo(conf.data)
		switch {
		case err == nil && (server == "" || server == found.URL):
			server = found.URL
			if conf.authServer == "" {
				if token, err = signToken(ctx, env, conf, ownClaims()); err != nil {
					return nil, err
				}
			}
		case err != nil && server == "" && !errors.Is(err, errNoServer):
			return nil, exit(exitUsage, err)
		}
	}
	cl, err := client.New(client.Config{Server: server, Token: token})
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	return cl, nil
}

// serverError gives a failure of a request its exit code.
func serverError(err error) error {
	if _, ok := errors.AsType[*exitError](err); ok || err == nil {
		return err
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return exit(exitServer, errors.New(e.Message))
	}
	return exit(exitServer, err)
}

func statusCommand(env *Env) *cobra.Command {
	var conn connection
	var asJSON, watch, quiet bool
	cmd := &cobra.Command{
		Use:   "status OWNER/DATASET[/REVISION]",
		Short: "Show how a revision stands",
		Long: `Show how a revision stands: a number, latest (the default) or successful.

Exit codes: 0 it succeeded or is open, 1 it failed, 3 the server did not answer or
knows no such revision.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.act(cmd, env, args[0], func(ctx context.Context, cl *client.Client, dataset, rev string) error {
				if watch {
					return follow(ctx, env, cl, dataset, rev, asJSON, quiet)
				}
				return show(ctx, env, cl, dataset, rev, asJSON)
			})
		},
	}
	conn.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of the server")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "follow the flow to its end")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "with --watch: print the end only")
	return cmd
}

// revisionArg reads OWNER/DATASET[/REVISION].
func revisionArg(arg string) (dataset, rev string, err error) {
	parts := strings.Split(arg, "/")
	if len(parts) == 2 {
		parts = append(parts, "latest")
	}
	if len(parts) != 3 || slices.Contains(parts, "") {
		return "", "", exit(exitUsage, errs.New(errs.Invalid, "cli.revisionArg", "%q is not OWNER/DATASET or OWNER/DATASET/REVISION", arg))
	}
	return parts[0] + "/" + parts[1], parts[2], nil
}

// follow prints the news of a revision until its flow has ended, then how it stands.
func follow(ctx context.Context, env *Env, cl *client.Client, dataset, rev string, asJSON, quiet bool) error {
	for e, err := range cl.Watch(ctx, dataset, rev) {
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return serverError(err)
		}
		if line := eventLine(e); line != "" && !quiet && !asJSON {
			fmt.Fprintln(env.Stderr, line)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return show(ctx, env, cl, dataset, rev, asJSON)
}

// show asks how a revision stands and prints it.
func show(ctx context.Context, env *Env, cl *client.Client, dataset, rev string, asJSON bool) error {
	status, err := cl.Status(ctx, dataset, rev)
	if err != nil {
		return serverError(err)
	}
	out := env.text
	if asJSON {
		out = &plainText{w: env.Stdout, form: jsonText}
	}
	err = showStatus(out, status, asJSON)
	if asJSON {
		return err
	}
	// The status is what was asked for: without the schedule it is shown all the same.
	if schedule, failed := cl.Schedule(ctx, dataset); failed == nil && schedule != nil {
		showSchedule(env.text, schedule)
	}
	return err
}

// showSchedule prints when a dataset is made again, and what became of the last time.
func showSchedule(w io.Writer, s *client.Schedule) {
	switch {
	case s.Paused != "":
		fmt.Fprintf(w, "schedule: %s, PAUSED: %s\n", s.Spec, s.Paused)
	case s.Next != nil:
		fmt.Fprintf(w, "schedule: %s, next %s\n", s.Spec, s.Next.UTC().Format(time.RFC3339))
	}
	switch {
	case s.Last == nil:
	case s.Last.Revision == 0:
		fmt.Fprintf(w, "  last due %s: no revision could be made\n", s.Last.Due.UTC().Format(time.RFC3339))
	default:
		fmt.Fprintf(w, "  last due %s: revision %d, %s\n", s.Last.Due.UTC().Format(time.RFC3339), s.Last.Revision, s.Last.State)
	}
}

func showStatus(w io.Writer, s *client.Status, asJSON bool) error {
	failed := func() error {
		if s.State == client.Failed {
			return exit(exitData, nil)
		}
		return nil
	}
	if asJSON {
		if _, err := fmt.Fprintf(w, "%s\n", strings.TrimSpace(string(s.Raw))); err != nil {
			return err
		}
		return failed()
	}
	state := s.State
	if s.Outcome != "" {
		state += " (" + s.Outcome + ")"
	}
	fmt.Fprintf(w, "%s %s\n", state, s.ID)
	for _, id := range slices.Sorted(maps.Keys(s.Pipelines)) {
		p := s.Pipelines[id]
		more := ""
		switch {
		case p.Progress != nil && p.Status == client.InProgress:
			more = fmt.Sprintf(", %d rows", p.Progress.Rows)
		case p.Reused != "":
			more = ", reused from " + p.Reused
		}
		fmt.Fprintf(w, "  %-10s %s (%s)%s\n", p.Status, id, p.Title, more)
	}
	for _, line := range s.ErrorLog {
		fmt.Fprintf(w, "  %s\n", line)
	}
	if s.Links.Package != "" {
		fmt.Fprintf(w, "package: %s\n", s.Links.Package)
	}
	fmt.Fprintf(w, "status:  %s\n", s.Links.Self)
	return failed()
}
