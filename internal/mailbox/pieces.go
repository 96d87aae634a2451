package mailbox

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// entriesMost limits how many entries one run of the deposit script may write. The cost of a run depends on entries more than on
// tenants.
const entriesMost = 300

// exchangeMost is how many results and claims together one run of the exchange script takes.
const exchangeMost = MaxBatch

// splitRecords splits records so that no run writes more than entriesMost entries.
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

// add adds the result of one piece of a deposit. All pieces have the same nonce, so they name the same wake-up, if any.
func (d *DepositResult) add(o DepositResult) {
	if d.Wake.IsNone() {
		d.Wake = o.Wake
	}
	d.Written += o.Written
	d.Replaced += o.Replaced
}

// DepositMany makes deposits for several apps, in one round trip if they are not too many. Results and errors are at their
// batch's index. A batch that fails, or that holds more than MaxBatch tenants, does not stop the others. A batch with an error
// also has the result of what it wrote before.
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
