// Package service builds all parts, starts them in order and stops them in reverse. No other package knows all parts;
// small adapters in this package connect them.
package service
