// Package circuit decides how an endpoint is treated: whether an answer blames the endpoint or one tenant, when its circuit
// opens and for how long, how many tenants probe it afterwards, and how many attempts may be in flight. It is pure: an
// Endpoint is what one process remembers between runs, a Run is one drain of a mailbox. Both get events and the time as
// arguments.
//
//	              ┌── alone ──┐  one attempt at a time: the host has not answered since the process
//	              │           │  started, or since it stopped answering
//	begun ────────┼─ probing ─┼──delivered──▶ proven
//	              └───────────┘  the cool-down is over: as many tenants as the mailbox says, once
//
//	              evidence against the endpoint
//	  claiming ───────────────────────────────▶ suspecting ──nothing is delivered──▶ the circuit opens
//	   │ │ ▲ ▲────────something is delivered────────┘
//	   │ │ └──renewed──┐
//	   │ └─budget spent─▶ resting
//	   │
//	   └── 410, a blocked address, Retry-After, an own fault, a stop, an opening ──▶ leaving
//
// # Blame
//
// One tenant's failure says little: the cause may be that tenant's data, or its shard. Evidence against the endpoint is
//
//   - a failure without any HTTP answer, unless something was delivered within the last 10 s;
//   - failures of two tenants without a delivery in between, or of the only tenant that approved;
//   - while others are delivered: Failures in a row, of at least two tenants;
//   - refusals, whatever their status, when nearly all answers refuse with the same status and none is a delivery. A tenant
//     that was refused while others were delivered does not count when it is refused again.
//
// Without such evidence a failure is the tenant's fault. The tenant is tried again at the circuit's pace, not by the retry
// schedule. While others are delivered, it is tried after half of the circuit's first cool-down and within a budget: a fifth
// of the endpoint's attempts, or five a second. The retry schedule is for notifications that a working endpoint refuses.
//
// # Probing
//
// After a cool-down, an endpoint whose host answers is probed by 5 tenants, after the next failures by 10, 20, 40 and then
// 64, half from each end of what is due. An endpoint whose host does not answer is probed by one. The first delivery closes
// the circuit. A failed probe is due just after the next cool-down, so that other tenants come first.
//
// A pause that the endpoint asked for in Retry-After is kept as asked: no attempt is made before its end, no probes follow
// it, and the pace is halved.
//
// # Pace
//
// The number of attempts in flight follows the answers. An endpoint that answers at once gets one more for each answer, until a
// limit was found for it. A slower one gets more as long as that raises the throughput, and fewer when fewer give the same
// throughput. One at a time is tried first if the first answers were that much faster. An endpoint also gets
// fewer when the median answer takes more than a third of the time allowed for an attempt. A time-out or 429 halves it.
//
// A run opens another connection only if the notifications that wait would take more than WorthConnecting on those that it
// used so far: a short backlog of a fast endpoint shares a few.
package circuit
