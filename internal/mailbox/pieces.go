package mailbox

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// entriesMost bounds what one run of the deposit script may have to write: that, more than the number of tenants, is
// what it costs.
const entriesMost = 300

// exchangeMost is how many results and claims together one run of the exchange script takes.
const exchangeMost = MaxBatch

// splitRecords cuts records where a run would have more than entriesMost entries to write.
func splitRecords(recs []*tenant.Record) [][]*tenant.Record {
	var out [][]*tenant.Record
	from, n := 0, 0
	for i, r := range recs {
		entries := 0
		for _, h := range r.Heads {
			if h.Sequence != 0 {
				entries++
			}
		}
		if n+entries > entriesMost {
			out, from, n = append(out, recs[from:i]), i, 0
		}
		n += entries
	}
	return append(out, recs[from:])
}

// add joins what the pieces of one deposit did. They have one nonce, so that they name one wake-up, if any.
func (d *DepositResult) add(o DepositResult) {
	if d.Wake.IsNone() {
		d.Wake = o.Wake
	}
	d.Written += o.Written
	d.Replaced += o.Replaced
}

// DepositMany makes deposits for several apps, in one round trip where they are not too many. Results and errors stand at
// their batch's index; one failing, or holding more than MaxBatch tenants, does not stop the others. What a batch with
// an error wrote before stands beside it.
func (s *Store) DepositMany(ctx context.Context, nonce string, batches []Batch) ([]DepositResult, []error) {
	cut, at := make([]Batch, 0, len(batches)), make([]int, 0, len(batches))
	for i, b := range batches {
		if len(b.Records) > MaxBatch {
			cut, at = append(cut, b), append(at, i)
			continue
		}
		for _, recs := range splitRecords(b.Records) {
			cut, at = append(cut, Batch{b.Life, recs}), append(at, i)
		}
	}
	ds, es := s.depositMany(ctx, nonce, cut)
	if len(cut) == len(batches) {
		return ds, es
	}
	out, errs := make([]DepositResult, len(batches)), make([]error, len(batches))
	for j, i := range at {
		out[i].add(ds[j])
		if errs[i] == nil {
			errs[i] = es[j]
		}
	}
	return out, errs
}
