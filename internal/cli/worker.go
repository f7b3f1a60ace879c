package cli

import (
	"github.com/spf13/cobra"

	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/jobs"
	"github.com/datahq/specstore/internal/runner"
)

func workerCommand(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run flows, without an API",
		Long: `Run flows until Ctrl-C or SIGTERM, beside any number of "serve" and "worker"
processes that share a PostgreSQL database and the stores of files. Flows of a
process that dies are taken over by another one within seconds.

Environment: as for "serve"; DATABASE_URL must name a PostgreSQL database, and
SPECSTORE_PUBLIC_URL the address by which the servers are known.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := serverConfig(env, cmd)
			if err == nil && c.embeddedDatabase() {
				err = errs.New(errs.Invalid, "cli.worker", "DATABASE_URL: a worker needs PostgreSQL; with SQLite the flows are run by serve")
			}
			if err == nil && c.publicURL == "" {
				err = errs.New(errs.Invalid, "cli.worker", "SPECSTORE_PUBLIC_URL: a worker must know the address of the servers")
			}
			if err == nil && c.workers == 0 {
				err = errs.New(errs.Invalid, "cli.worker", "SPECSTORE_WORKERS: a worker runs at least one flow at once")
			}
			if err != nil {
				return exit(exitUsage, err)
			}
			p, err := c.start(cmd.Context(), env)
			if err != nil {
				return err
			}
			p.log.InfoContext(cmd.Context(), "working", "data", c.data, "workers", c.workers)
			<-cmd.Context().Done()
			p.log.Info("stopping")
			return p.stop(cmd.Context())
		},
	}
	dataFlag(cmd)
	cmd.Flags().String("public-url", "", "base `URL` of the servers (SPECSTORE_PUBLIC_URL)")
	cmd.Flags().String("log", "text", "`format` of the log, text or json (SPECSTORE_LOG)")
	return cmd
}

// childCommand is what "serve" and "worker" start for their runs.
func childCommand(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:    runner.Command,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if code := runner.Child(env.Stdin, env.Stdout, env.Stderr); code != 0 {
				return exit(code, nil)
			}
			return nil
		},
	}
}

func migrateCommand(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database up to date",
		Long: `Make the tables of the database that DATABASE_URL names, or bring those of an
earlier version or of the original Spec Store up to date, in place. "serve" does
so too when it starts; several may do so at once.

Times that the original wrote have no zone: SPECSTORE_LEGACY_TZ names it, such as
Europe/London; without it they are taken as the machine's.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := serverConfig(env, cmd)
			if err != nil {
				return exit(exitUsage, err)
			}
			db, _, err := c.openDatabase(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			if err := jobs.Migrate(cmd.Context(), db); err != nil {
				return err
			}
			cmd.Println("the database is up to date")
			return db.Close()
		},
	}
	dataFlag(cmd)
	return cmd
}
