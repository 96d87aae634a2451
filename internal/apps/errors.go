package apps

import (
	"fmt"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Budget names what a write may use of the service.
type Budget uint8

// The closed set of budgets.
const (
	// HostNames: host names are looked up for an app's partner.
	HostNames Budget = iota
	// EndpointTests: endpoints are tried.
	EndpointTests
	// NewAddresses: a partner sets mail addresses that the app did not have.
	NewAddresses
)

// The size of the budgets: so many at once, then one per interval.
const (
	NamesInterval = time.Second
	NamesBurst    = 20
	TestInterval  = 10 * time.Second
	TestBurst     = 3
)

// BudgetError is returned when a budget is used up. Nothing was written.
type BudgetError struct {
	Budget Budget
	// Wait is how long to wait before a repeat.
	Wait time.Duration
	// Err says more; it may be nil.
	Err error
}

// Error implements error.
func (e *BudgetError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("budget %d is used up for %v", e.Budget, e.Wait)
}

// Unwrap returns Err.
func (e *BudgetError) Unwrap() error { return e.Err }

// AddressError lists the URLs of a write that may not be called.
type AddressError struct{ Faults []AddressFault }

// AddressFault is a URL that may not be called.
type AddressFault struct {
	// Pointer is the JSON pointer to it in the app.
	Pointer string
	// Err is that of the AddressChecker.
	Err error
	// WeakKey: its certificate has a key that is too short.
	WeakKey bool
}

// Error implements error.
func (e *AddressError) Error() string {
	texts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		texts[i] = f.Pointer + ": " + f.Err.Error()
	}
	return strings.Join(texts, "; ")
}

// LicenceError lists the endpoints of a write that need a licence which the app was not granted.
type LicenceError struct{ Fields []partner.FieldError }

// Error implements error.
func (e *LicenceError) Error() string { return partner.ValidationError(e.Fields).Error() }

// ProbeError lists the endpoints of a write that failed their probe.
type ProbeError struct{ Failures []ProbeFailure }

// ProbeFailure is an endpoint that failed its probe.
type ProbeFailure struct {
	// Pointer is the JSON pointer to the member of the app that the probe is about.
	Pointer  string
	Endpoint partner.EndpointKind
	Result   health.TestResult
}

// Error implements error.
func (e *ProbeError) Error() string {
	texts := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		texts[i] = f.Pointer + ": " + f.Result.Cause.String()
	}
	return strings.Join(texts, "; ")
}
