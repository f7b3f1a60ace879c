package service_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/datahq/specstore/internal/auth"
	"github.com/datahq/specstore/internal/registry"
	"github.com/datahq/specstore/internal/testkit"
)

// TestFairShare: where one owner's sources hold every worker, another one's push ends all
// the same, and what was given back goes on afterwards.
func TestFairShare(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		s := f.source()
		var slow []*registry.Revision
		for _, name := range []string{"a", "b", "c"} {
			slow = append(slow, f.upload(name, s.URL+"/t.csv"))
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		if err := f.Queue.Start(ctx); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Queue.Stop(t.Context()) }()
		running.Go(func() { f.Maintain(ctx) })
		<-s.reading
		<-s.reading // both workers are taken
		other := testkit.Must(f.Issuer.Sign(auth.Claims{UserID: "other", Service: auth.ServiceSource, MaxDatasets: 10}, time.Now()))(t)
		quick := testkit.Must(f.Upload(t.Context(), other, []byte(`{"meta":{"ownerid":"other","dataset":"quick","findability":"published"},"inputs":[{
			"kind":"datapackage","parameters":{"descriptor":{"resources":[{"name":"t","format":"csv","data":"id,name\n1,one\n"}]}}}]}`), ""))(t).Revision
		f.await(quick, registry.Succeeded)
		s.letGo()
		for _, r := range slow {
			f.await(r, registry.Succeeded)
		}
	})
}
