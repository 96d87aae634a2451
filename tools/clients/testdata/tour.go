// The README's tour by a client that oapi-codegen generated: register an app, let a tenant approve it, report a change, see that it
// was delivered. Any other answer than the expected one ends it with an error.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	token := "Bearer " + os.Getenv("LAMPLIGHTER_TOKEN")
	c, err := NewClientWithResponses(os.Getenv("LAMPLIGHTER_URL"), WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", token)
		return nil
	}))
	requireStatus("client", err, 0, 0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	app, err := c.PutAppWithResponse(ctx, "tour-go", nil, AppPut{Name: "Tour"})
	requireStatus("register", err, app.StatusCode(), http.StatusCreated)
	approved, err := c.PutApprovalWithResponse(ctx, "tour-go", "Cust10001", nil)
	requireStatus("approve", err, approved.StatusCode(), http.StatusNoContent)
	change, err := c.PostStateChangesWithResponse(ctx, nil, StateChange{Tenant: "Cust10001", ChangeType: Resume})
	requireStatus("publish", err, change.StatusCode(), http.StatusAccepted)
	if change.JSON202.Sequence <= 1<<31 {
		log.Fatalf("a sequence is milliseconds since 1970: %d", change.JSON202.Sequence)
	}
	for settled := false; !settled; time.Sleep(200 * time.Millisecond) {
		status, err := c.GetStateChangeWithResponse(ctx, change.JSON202.Id)
		requireStatus("status", err, status.StatusCode(), http.StatusOK)
		for _, a := range status.JSON200.Apps {
			settled = settled || a.ClientId == "demo-erp" && a.Outcome == "settled"
		}
	}
	list, err := c.ListDeliveriesWithResponse(ctx, "demo-erp", nil)
	requireStatus("deliveries", err, list.StatusCode(), http.StatusOK)
}

func requireStatus(what string, err error, got, want int) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
	if got != want {
		log.Fatalf("%s: %d, want %d", what, got, want)
	}
}
