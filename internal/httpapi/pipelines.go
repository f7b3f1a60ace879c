package httpapi

import (
	"bufio"
	"crypto/hmac"
	"encoding/json"
	"io"
	"net/http"

	"github.com/datahq/specstore/internal/errs"
)

// sourcePipelines lists what a pipelines service is to run, for its plugin. The list
// shows sources and addresses for updates, so the operators' token alone opens it.
func (a *api) sourcePipelines(w http.ResponseWriter, r *http.Request) error {
	bearer, ok := bearerOf(r)
	if !ok || a.UpdateToken == "" || !hmac.Equal([]byte(bearer), []byte(a.UpdateToken)) {
		return errs.New(errs.Unauthorized, "httpapi.sourcePipelines", "the list is for the plugin of the pipelines service, which bears SPECSTORE_UPDATE_TOKEN")
	}
	out := bufio.NewWriterSize(w, 64<<10)
	begun := false
	err := a.Service.OpenPipelines(r.Context(), func(id string, details json.RawMessage) error {
		name, err := json.Marshal(id)
		if err != nil {
			return err
		}
		lead := "[\n"
		if begun {
			lead = ",\n"
		} else {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
		}
		begun = true
		for _, part := range []string{lead, `{"id":`, string(name), `,"details":`} {
			if _, err := io.WriteString(out, part); err != nil {
				return err
			}
		}
		if _, err := out.Write(details); err != nil {
			return err
		}
		return out.WriteByte('}')
	})
	switch {
	case err != nil && begun:
		// A list that ends too early must not be taken for a whole one.
		panic(http.ErrAbortHandler)
	case err != nil:
		return err
	case !begun:
		return writeJSON(w, http.StatusOK, []any{})
	}
	_, _ = io.WriteString(out, "]\n")
	_ = out.Flush() // the reader has gone
	return nil
}
