// Package service builds everything out of its parts, starts it in order and stops it in reverse.
// It is the one place that knows all parts; what connects two of them is a small adapter here.
package service
