package cli

import (
	"fmt"
	"strings"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/flowspec"
	"github.com/datahq/specstore/internal/plan"
	"github.com/spf13/cobra"
)

func planCommand(env *Env) *cobra.Command {
	var revision, updateTime, createTime, allowed string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "plan PATH",
		Short: "Print the pipelines that a Flow-Spec leads to",
		Long: `Print the pipelines that a Flow-Spec leads to. PATH is a file, YAML or
JSON, or a folder as for run. Sources are neither fetched nor opened. Without
--allowed-types the plan is the one that a datapackage-pipelines service gets.

PLANNER_LOCAL, PKGSTORE_BUCKET, S3_ENDPOINT_URL and AWS_* are honoured, as they
matter for plans that an external datapackage-pipelines service runs.`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkURL("S3_ENDPOINT_URL", env.Getenv("S3_ENDPOINT_URL")); err != nil {
				return exit(exitUsage, err)
			}
			path, read := env.path(args[0]), readSpec
			if isDir(path) {
				read = localSpec
			}
			raw, err := read(path)
			if err != nil {
				return exit(exitUsage, err)
			}
			spec, problems := flowspec.Check(raw)
			if len(problems) > 0 {
				return exit(exitUsage, errs.New(errs.Invalid, "cli.plan", "the spec is not valid:\n  %s", strings.Join(flowspec.ProblemLines(problems), "\n  ")))
			}
			in := plan.Input{
				Spec: spec, Revision: revision, UpdateTime: updateTime, CreateTime: createTime,
				Settings: planSettings(env),
			}
			if cmd.Flags().Changed("allowed-types") {
				in.AllowedTypes = append([]string{}, list(allowed)...)
				if allowed == "embedded" {
					in.AllowedTypes = plan.EmbeddedTypes()
				}
			}
			pipelines, err := plan.Plan(in)
			if err != nil {
				return exit(exitUsage, err)
			}
			for _, note := range plan.Notes(in) {
				fmt.Fprintf(env.Stderr, "note: %s\n", note)
			}
			if asJSON {
				return writeJSON(env.Stdout, pipelines)
			}
			for _, p := range pipelines {
				fmt.Fprintf(env.text, "%s  (%s)\n", p.ID, p.Details.Title)
				for _, d := range p.Details.Dependencies {
					fmt.Fprintf(env.text, "    after %s\n", strings.TrimPrefix(d.Pipeline, "./"))
				}
				for _, s := range p.Details.Pipeline {
					fmt.Fprintf(env.text, "    %s\n", s.Run)
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&revision, "revision", "1", "`number` of the revision")
	f.StringVar(&updateTime, "update-time", "", "`time` of the push, put into the metadata")
	f.StringVar(&createTime, "create-time", "", "`time` of the dataset's first push, put into the metadata")
	f.StringVar(&allowed, "allowed-types", "", "`types` of outputs to plan, separated by commas; embedded stands for those of the embedded engine, an empty text allows none")
	f.BoolVar(&asJSON, "json", false, "print [[id, details], ...] as JSON")
	return cmd
}

// planSettings reads the planner's variables. Without a bucket a plan is local:
// the embedded engine has one store of its own.
func planSettings(env *Env) plan.Settings {
	s := plan.Settings{
		Local: env.Getenv("PLANNER_LOCAL") != "", Bucket: env.Getenv("PKGSTORE_BUCKET"), S3Endpoint: env.Getenv("S3_ENDPOINT_URL"),
		AccessKey: env.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: env.Getenv("AWS_SECRET_ACCESS_KEY"), Region: env.Getenv("AWS_REGION"),
		SignTime: env.Now(),
	}
	if s.Region == "" {
		s.Region = env.Getenv("AWS_DEFAULT_REGION")
	}
	if s.Bucket == "" {
		s.Local = true
	}
	return s
}
