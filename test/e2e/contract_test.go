package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
)

// contract holds every answer that the suite gets from an API against the document that the binary
// serves. Faults may come from goroutines of a test that is over, so TestMain tells them.
var contract struct {
	once sync.Once
	*httpapitest.Contract

	err error

	mu     sync.Mutex
	faults map[string]int
}

// platform is the client of all who call an API.
var platform = &http.Client{Transport: answers{}} //nolint:gochecknoglobals // never changed

// answers is a transport that checks what it brings.
type answers struct{}

func (answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if *upgradeFrom != "" { // some answers are then an older version's, of which this document does not speak
		return http.DefaultTransport.RoundTrip(r)
	}
	contract.mu.Lock()
	c := contract.Contract
	contract.mu.Unlock()
	if c == nil {
		broke(fmt.Errorf("%s %s: asked before the document was read", r.Method, r.URL.Path))
		return http.DefaultTransport.RoundTrip(r)
	}
	return c.Transport(http.DefaultTransport, broke).RoundTrip(r)
}

// checkPush holds a notification against the document.
func checkPush(body []byte) {
	contract.mu.Lock()
	c := contract.Contract
	contract.mu.Unlock()
	if c == nil || *upgradeFrom != "" {
		return
	}
	if err := c.Push(body); err != nil {
		broke(fmt.Errorf("a notification: %w", err))
	}
}

// broke keeps a fault, once for all answers that have it.
func broke(err error) {
	contract.mu.Lock()
	defer contract.mu.Unlock()
	if contract.faults == nil {
		contract.faults = map[string]int{}
	}
	contract.faults[err.Error()]++
}

// readContract reads the document from the first API that runs.
func readContract(ctx context.Context, api string) error {
	contract.once.Do(func() {
		contract.err = func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+api+"/v1/openapi.json", http.NoBody)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+adminToken)
			resp, err := probes.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			c, err := httpapitest.Load(context.WithoutCancel(ctx), text)
			contract.mu.Lock()
			contract.Contract = c
			contract.mu.Unlock()
			return err
		}()
	})
	return contract.err
}

// judgeAnswers says how many answers were checked and fails the run where one was not as described.
func judgeAnswers(code int) int {
	contract.mu.Lock()
	defer contract.mu.Unlock()
	if contract.Contract != nil {
		fmt.Printf("%d answers checked against the document\n", contract.Checked())
	}
	for fault, n := range contract.faults {
		fmt.Fprintf(os.Stderr, "answer against the document, %d times: %s\n", n, fault)
		code = max(code, 1)
	}
	return code
}
