package httpapi_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func (w *world) CreateToken(_ context.Context, t registry.Token, hash string, _ bool, _ registry.Actor) (bool, error) {
	defer w.lock()()
	if w.down != nil {
		return false, w.down
	}
	w.tokens[hash] = t
	return true, nil
}

func (w *world) Tokens(context.Context) ([]registry.Token, error) {
	defer w.lock()()
	return slices.SortedFunc(maps.Values(w.tokens), func(a, b registry.Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	}), w.down
}

func (w *world) Token(_ context.Context, id string) (registry.Token, error) {
	defer w.lock()()
	if w.down != nil {
		return registry.Token{}, w.down
	}
	for _, t := range w.tokens {
		if t.ID == id {
			return t, nil
		}
	}
	return registry.Token{}, registry.ErrNotFound
}

func (w *world) RevokeToken(_ context.Context, id string, _ registry.Actor) error {
	defer w.lock()()
	for hash, t := range w.tokens {
		if t.ID == id {
			t.RevokedAt = start
			w.tokens[hash] = t
			return w.down
		}
	}
	return registry.ErrNotFound
}

func (w *world) RecordTokenUse(_ context.Context, id string, at time.Time) error {
	defer w.lock()()
	w.uses = append(w.uses, id+" "+at.Format(time.TimeOnly))
	return w.down
}

// spare is a token that no test calls with.
func (w *world) spare() {
	w.tokens[httpapi.HashToken("lmp_spare")] = registry.Token{ID: "spare", Name: "spare", Role: "operator"}
}
