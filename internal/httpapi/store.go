package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/storewatch"
)

// StoreWatch knows whether the store is the one that the process began with.
type StoreWatch interface {
	// ChangedMessage says why the store may not be used, empty while it may. It does not call the store.
	ChangedMessage() string
	// Confirm returns nil when a check that began after the call found the store in order. Errors:
	// storewatch.ErrChanged; any other error leaves it open.
	Confirm(ctx context.Context) error
	// AllowChangedStore returns a context for calls that may use a store that changed.
	AllowChangedStore(ctx context.Context) context.Context
	// Accept accepts the store as it is, for all processes. Errors: registry.ErrOtherEnvironment,
	// registry.ErrNewerFormat.
	Accept(ctx context.Context, actor registry.Actor) (storewatch.Accepted, error)
}

// acceptStoreOperation is the one operation that still uses a store which changed.
const acceptStoreOperation = "acceptStore"

// retryChanged is how long a caller should wait while the operators restore or accept the store.
const retryChanged = 10 * time.Second

func storeChangedProblem() *Problem {
	p := newProblem(http.StatusServiceUnavailable, "store-changed", "The service's store changed under it",
		"Nothing was written. It is not used until its operators restore or accept it: repeat the request after the time in Retry-After, a state change with its Idempotency-Key.")
	p.retryAfter = retryChanged
	return p
}

// worksWithoutStore reports whether an operation does not use the store.
func (r route) worksWithoutStore() bool {
	switch r.operation {
	case "getDiscovery", "getJWKS", "getOpenAPI", "getDocs":
		return true
	default:
		return false
	}
}

// checkStoreUsable refuses operations that would use a store that changed.
func (a *API) checkStoreUsable(c *call, rt route) error {
	switch {
	case a.Store == nil || rt.worksWithoutStore():
		return nil
	case rt.operation == acceptStoreOperation:
		c.r = c.r.WithContext(a.Store.AllowChangedStore(c.ctx()))
		return nil
	case a.Store.ChangedMessage() != "":
		return storeChangedProblem()
	default:
		return nil
	}
}

// confirmAbsence returns nil when a record that was not found does not exist. Otherwise the store may have lost it.
func confirmAbsence(ctx context.Context, w StoreWatch) error {
	if w == nil {
		return nil
	}
	return w.Confirm(ctx)
}

// acceptStore accepts the store as it is.
func (a *API) acceptStore(c *call) error {
	if err := c.requireEmptyDocument(); err != nil {
		return err
	}
	accepted, err := a.Store.Accept(c.ctx(), c.actor)
	if errors.Is(err, registry.ErrOtherEnvironment) || errors.Is(err, registry.ErrNewerFormat) {
		return newProblem(http.StatusConflict, "store-not-ours", "The store is for another service",
			"Its data belong to another environment, or a newer version wrote them: look at redis.url, redis.prefix and the version.")
	}
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, storeAnswer{accepted.Identity, accepted.Found})
}

type storeAnswer struct {
	Identity string `json:"identity" doc:"The store's new identity."`
	Found    string `json:"found" api:"ref=StoreFound" doc:"How the process that answers found the store."`
}
