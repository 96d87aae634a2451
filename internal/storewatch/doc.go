// Package storewatch notices that the store changed under a process: Redis lost everything, was replaced
// by another, or went back to an older copy.
//
// A store has a random identity, which the first process that begins with it makes. Each process remembers
// it, the revision of the settings, and a count of its own that it raises with each look, once a second:
//
//		             identity gone, or another
//		 in order ────────────────────────────▶ changed
//		    │  ▲ ◀────────────────────────────────┘
//		    │  │     the identity is back, or the store was accepted
//		    ▼  │ accepted
//		went back: count or revision lower than remembered
//
//	  - In order, and went back: the process works. One that went back owes a fast round of the comparison,
//	    which the script that finds it asks for in Redis, so that no restart forgets it.
//	  - Changed: the process neither reads nor writes the store; Gate refuses it all. API calls are 503, and
//	    a worker stands still: it claims nothing, so it posts nothing, fans nothing out, sweeps, probes
//	    and mails nothing, and takes no task from the queue. What was posted when the store changed cannot be
//	    settled and may be posted again. Let through are the look, what a start does (environment, format,
//	    the first admin token), and the call that accepts the store.
//
// An error, a time-out, a refused or redirected command and a replica's refusal decide nothing: the store is
// then unavailable, not changed. Between a change and the look that finds it lies a second at most; who
// presents an unknown token, or asks for an unknown tenant, is answered after a look of their own.
//
// A process that begins after the change cannot know of it: it takes what it finds as its own.
package storewatch
