// Package health holds what is known about integration endpoints: the findings of probes with their
// descriptions, the state that is kept between probes, the time of the next probe, and an assessment in
// one word. It is pure: time and randomness are arguments.
package health
