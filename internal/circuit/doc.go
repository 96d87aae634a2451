// Package circuit decides how an endpoint is treated: whether an answer blames the endpoint or one tenant, when its circuit
// opens and for how long, how many tenants prove that it is well again, and how many posts it gets at once. It is pure: an
// Endpoint is what one process knows between runs, a Run is one drain of a mailbox; both take what happened and the time.
//
//	              ┌── alone ──┐  one post at a time: the host has not answered since the process
//	              │           │  started, or since it fell silent
//	begun ────────┼─ probing ─┼──delivered──▶ proven
//	              └───────────┘  the gate has run out: so many tenants as the mailbox says, once
//
//	              evidence against the endpoint
//	  claiming ───────────────────────────────▶ suspecting ──nothing is delivered──▶ the gate closes
//	   │ │ ▲ ▲────────something is delivered────────┘
//	   │ │ └──renewed──┐
//	   │ └─budget spent─▶ resting
//	   │
//	   └── 410, a blocked address, Retry-After, an own fault, a stop, an opening ──▶ leaving
//
// # Blame
//
// One tenant's failure says little: it may be that tenant's data, or its shard. Evidence against the endpoint is
//
//   - a failure without any HTTP answer, unless something was delivered within the last 10 s;
//   - failures of two tenants and nothing delivered between, or of the only one that approved;
//   - while others are delivered: Failures in a row, of two tenants at least;
//   - refusals, whatever their status, where nearly all are refused alike and none is delivered. A tenant that was refused while
//     others were delivered says nothing new when it is refused again.
//
// Until then a failure is held against the tenant alone. Such a tenant is tried again at the circuit's pace, never by the
// retry schedule; while others are delivered, after half of the circuit's first wait and within a budget: a fifth of its
// posts, or five a second. The retry schedule is for what a working endpoint refuses.
//
// # Probing
//
// Where the host answers, a gate that has run out lets 5 tenants try, after the next failure 10, 20, 40 and then 64, half from each
// end of what is due. Where it does not answer, one. The first that is delivered closes the circuit. What failed as a probe is due
// just after the next gate, so that others come first.
//
// A pause that the endpoint asked for in Retry-After is kept to as it was said: nothing is posted before, nothing is to be proved
// after it, and the pace is what it was, halved.
//
// # Pace
//
// How many posts are out at once follows what comes of it. An endpoint that answers at once gets one more for each answer. One that
// takes its time gets more as long as that tells more tenants in a time, fewer where fewer tell as many, and fewer where the median
// answer takes more than a third of what an attempt may; a time-out and 429 halve it.
package circuit
