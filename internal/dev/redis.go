package dev

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// startRedis starts an in-process Redis on a free port of this machine. Keys expire by the wall clock, which
// miniredis does not do by itself. TIME is the wall clock, too.
func startRedis() (*miniredis.Miniredis, error) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the in-process Redis: %w", err)
	}
	return m, nil
}
