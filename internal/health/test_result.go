package health

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/told"
)

// TestResult is the result of one test of an endpoint.
type TestResult struct {
	// State is StatusHealthy, StatusFailing, or StatusUnchecked when the test says nothing about the endpoint.
	State Status
	Cause told.Cause
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Detail says more, for operators and admins alone.
	Detail   string
	Duration time.Duration
}
