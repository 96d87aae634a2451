package registry

import "time"

// SetClock gives the directory another clock; before its first use.
func (d *Directory) SetClock(now func() time.Time) { d.now = now }

// Waiting is how many wait for the next read.
func (d *Directory) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == nil {
		return 0
	}
	return d.next.waiting
}
