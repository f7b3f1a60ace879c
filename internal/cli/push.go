package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/datahq/specstore/client"
	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/datapackage"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/spf13/cobra"
)

// ownClaims are those of a command that signs for itself.
func ownClaims() auth.Claims {
	return auth.Claims{UserID: localOwner, UserName: localOwner, MaxDatasets: 1 << 20, Expires: time.Hour}
}

type pushOptions struct {
	name, owner, findability, schedule string
	noWait, asJSON, quiet              bool
}

func pushCommand(env *Env) *cobra.Command {
	var conn connection
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push PATH",
		Short: "Push a dataset to a server and follow its flow",
		Long: `Push a dataset to a server: upload its files, then its spec, then follow the flow
to its end.

PATH is a folder with a datapackage.json, or a Flow-Spec (.yaml or .json) or a
folder with .datahub/flow.yaml. Only files in that folder, or in the folder of the
Flow-Spec, are read and sent: paths and links that lead out of it are refused, and so
are pipes and devices. A server of the same data folder is found by
itself and needs no token; else name it by --server and give a user token.

Exit codes: 0 the flow succeeded, 1 it failed, 2 wrong usage or spec, 3 the server
did not answer or refused.`,
		Example: "  specstore push examples/elements",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := env.path(args[0])
			raw, err := localSpec(path)
			if err != nil {
				return exit(exitUsage, err)
			}
			cl, err := conn.connect(cmd.Context(), env, cmd)
			if err != nil {
				return err
			}
			return push(cmd.Context(), env, cl, raw, folderOf(path), o)
		},
	}
	conn.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "`name` of the dataset")
	f.StringVar(&o.owner, "owner", "", "owner `ID`; the token's where it is not given")
	f.StringVar(&o.findability, "findability", "", "published, unlisted or private")
	f.StringVar(&o.schedule, "schedule", "", "when to make it again: `'every 1d'`, {\"cron\": …, \"timezone\": …}, or none; without it the dataset's schedule stays")
	f.BoolVar(&o.noWait, "no-wait", false, "leave when the push is accepted")
	f.BoolVar(&o.asJSON, "json", false, "print the last answer of the server")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print the end only")
	return cmd
}

// push sends what a local spec names, all of it in the folder dir, and follows the flow.
func push(ctx context.Context, env *Env, cl *client.Client, raw map[string]any, dir string, o pushOptions) error {
	user, err := cl.Check(ctx)
	if err != nil {
		return serverError(err)
	}
	if user == nil {
		return exit(exitServer, errs.New(errs.Unauthorized, "cli.push", "the server does not know the token; give one by --token or SPECSTORE_TOKEN"))
	}
	meta, _ := raw["meta"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		raw["meta"] = meta
	}
	meta["ownerid"], meta["owner"] = user.ID, user.Username
	set := func(m map[string]any, key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	set(meta, "ownerid", o.owner)
	set(meta, "dataset", o.name)
	set(meta, "findability", o.findability)
	if err := setSchedule(ctx, cl, raw, o.schedule); err != nil {
		return err
	}
	spec, problems := flowspec.Check(raw)
	if len(problems) > 0 {
		return exit(exitUsage, errs.New(errs.Invalid, "cli.push", "the spec is not valid:\n  %s", strings.Join(flowspec.ProblemLines(problems), "\n  ")))
	}
	if err := uploadFiles(ctx, env, cl, spec, dir, o); err != nil {
		return err
	}
	source, err := serviceClient(ctx, cl, auth.ServiceSource)
	if err != nil {
		return err
	}
	body, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	accepted, err := source.Upload(ctx, body, "")
	if err != nil {
		return serverError(err)
	}
	if !o.quiet && !o.asJSON {
		fmt.Fprintf(env.Stderr, "ACCEPTED   %s\n", accepted.FlowID)
	}
	if o.noWait {
		return show(ctx, env, source, accepted.DatasetID, accepted.Revision(), o.asJSON)
	}
	return follow(ctx, env, cl, accepted.DatasetID, accepted.Revision(), o.asJSON, o.quiet)
}

// setSchedule sets the schedule of a spec: what was asked for, else its own, else the one
// that the dataset has, since a push without a schedule ends it.
func setSchedule(ctx context.Context, cl *client.Client, raw map[string]any, asked string) error {
	switch {
	case asked == "none":
		delete(raw, "schedule")
		return nil
	case strings.HasPrefix(asked, "{"):
		var object map[string]any
		if err := json.Unmarshal([]byte(asked), &object); err != nil {
			return exit(exitUsage, errs.Wrap(err, errs.Invalid, "cli.push", "--schedule: %q is not JSON", asked))
		}
		raw["schedule"] = object
		return nil
	case asked != "":
		raw["schedule"] = asked
		return nil
	case raw["schedule"] != nil:
		return nil
	}
	meta, _ := raw["meta"].(map[string]any)
	owner, _ := meta["ownerid"].(string)
	name, _ := meta["dataset"].(string)
	if owner == "" || name == "" || strings.Contains(owner+name, "/") {
		return nil // the check of the spec says so
	}
	schedule, err := cl.Schedule(ctx, owner+"/"+name)
	if client.StatusCode(err) == http.StatusNotFound || err == nil && schedule == nil {
		return nil
	}
	if err != nil {
		return serverError(err)
	}
	var kept any
	if err := json.Unmarshal(schedule.Spec, &kept); err != nil {
		return exit(exitServer, err)
	}
	raw["schedule"] = kept
	return nil
}

// serviceClient swaps a user token for one of a service. A token that is for a
// service already is used as it is.
func serviceClient(ctx context.Context, cl *client.Client, service string) (*client.Client, error) {
	token, err := cl.Authorize(ctx, service)
	if client.StatusCode(err) == 401 {
		return cl, nil
	}
	if err != nil {
		return nil, serverError(err)
	}
	return cl.WithToken(token), nil
}

// uploadFiles sends the local files of a spec, which lie in the folder dir, and maps
// its resources to them.
func uploadFiles(ctx context.Context, env *Env, cl *client.Client, spec *flowspec.Spec, dir string, o pushOptions) error {
	local := map[string]string{} // path in the package to file
	base := filepath.Dir(spec.URL)
	for _, r := range spec.Resources {
		for _, path := range r.Paths {
			at, mapped := spec.Mapped(r, path)
			if !mapped {
				at = path
			}
			if !datapackage.IsURL(at) {
				local[path] = localPath(base, at)
			}
		}
	}
	input := spec.Raw["inputs"].([]any)[0].(map[string]any)
	if len(local) == 0 {
		return nil
	}
	// The server resolves relative paths against an address that it can read; all
	// are mapped, so this one only has to be one.
	if !datapackage.IsURL(spec.URL) {
		delete(input, "url")
	}
	files := map[string]client.File{}
	for path, file := range local {
		f, err := openLocal(dir, file)
		if err != nil {
			return exit(exitUsage, err)
		}
		d, err := client.Describe(filepath.Base(file), f)
		if err = errors.Join(err, f.Close()); err != nil {
			return exit(exitUsage, pathError(err))
		}
		files[path] = d
	}
	raw, err := serviceClient(ctx, cl, auth.ServiceRawstore)
	if err != nil {
		return err
	}
	leaves, err := raw.AuthorizeRaw(ctx, spec.OwnerID, files)
	if err != nil {
		return serverError(err)
	}
	parameters := input["parameters"].(map[string]any)
	mapping, _ := parameters["resource-mapping"].(map[string]any)
	if mapping == nil {
		mapping = map[string]any{}
		parameters["resource-mapping"] = mapping
	}
	for path, leave := range leaves {
		if !leave.Exists {
			if !o.quiet && !o.asJSON {
				fmt.Fprintf(env.Stderr, "UPLOAD     %s, %d bytes\n", path, files[path].Length)
			}
			f, err := openLocal(dir, local[path])
			if err != nil {
				return exit(exitUsage, err)
			}
			err = raw.UploadRawAt(ctx, leave, files[path].Name, f, files[path].Length)
			if err = errors.Join(err, f.Close()); err != nil {
				return serverError(err)
			}
		}
		mapping[path] = leave.ObjectURL()
	}
	return nil
}

// eventLine is what a person reads of an event.
func eventLine(e client.Event) string {
	var body struct {
		Pipeline string `json:"pipeline"`
		Body     struct {
			State  string `json:"state"`
			Reused string `json:"reused"`
		} `json:"body"`
	}
	if json.Unmarshal(e.Data, &body) != nil || body.Pipeline == "" || e.Kind == "queue" {
		return ""
	}
	line := fmt.Sprintf("%-10s %s", body.Body.State, body.Pipeline)
	if body.Body.Reused != "" {
		line += ", reused from " + body.Body.Reused
	}
	return line
}
