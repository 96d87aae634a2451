package httpapi

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestSmallBodiesDoNotWaitForLargeOnes: while as many large bodies are parsed as may be, and more of them wait, a
// change of the platform's is parsed at once.
func TestSmallBodiesDoNotWaitForLargeOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limits := newParseLimits()
		acquired := func(n int64) bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := limits.acquire(ctx, n)
			return err == nil
		}
		held := 0
		for acquired(maxBody) {
			held++
		}
		if held < 1 || held*maxBody > 2<<20 {
			t.Errorf("%d bodies of 1 MiB are parsed at once", held)
		}
		for range smallBodiesAtOnce / smallBody {
			if !acquired(smallBody) {
				t.Fatal("a small body waits for large ones")
			}
		}
		if acquired(1) {
			t.Error("small bodies have no bound")
		}
	})
}
