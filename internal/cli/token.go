package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/errs"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/sqldb"
	"github.com/spf13/cobra"
)

func tokenCommand(env *Env) *cobra.Command {
	var claims auth.Claims
	cmd := &cobra.Command{
		Use:   "token --owner ID",
		Short: "Sign a token with the embedded issuer's key",
		Long: `Sign a token with the key of the server that uses the same data folder. Without
--service it is a user token, which a client swaps for others by /auth/authorize.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if claims.UserID == "" {
				return exit(exitUsage, fmt.Errorf("token needs --owner ID"))
			}
			c, err := serverConfig(env, cmd)
			if err != nil {
				return exit(exitUsage, err)
			}
			token, err := signToken(cmd.Context(), env, c, claims)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(env.Stdout, token)
			return err
		},
	}
	dataFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&claims.UserID, "owner", "", "owner `ID`")
	f.StringVar(&claims.UserName, "user", "", "owner `name`")
	f.StringVar(&claims.Service, "service", "", "`service` that the token is for, such as source")
	f.IntVar(&claims.MaxDatasets, "max-datasets", 1000, "`number` of datasets that the owner may have")
	f.DurationVar(&claims.Expires, "expires", 24*time.Hour, "how long the token is good")
	return cmd
}

// signToken signs with the key of the data folder's server, which may be running.
func signToken(ctx context.Context, env *Env, c *config, claims auth.Claims) (string, error) {
	if c.authServer != "" {
		return "", exit(exitUsage, errs.New(errs.Invalid, "cli.token", "AUTH_SERVER is set: that server issues the tokens"))
	}
	db, err := sqldb.OpenReader(ctx, sqldb.Config{URL: c.databaseURL})
	if err != nil {
		return "", exit(exitUsage, err)
	}
	defer db.Close()
	key, err := registry.OpenReader(db).Setting(ctx, issuerSetting, func() (string, error) {
		return "", errs.New(errs.NotFound, "cli.token", "there is no key yet: start the server first")
	})
	if err != nil {
		return "", err
	}
	issuer, err := auth.NewIssuer(key)
	if err != nil {
		return "", err
	}
	return issuer.Sign(claims, env.Now())
}
