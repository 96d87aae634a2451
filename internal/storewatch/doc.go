// Package storewatch notices that the store changed under a process: Redis lost everything, was replaced
// by another, or went back to an older copy.
//
// A store has a random identity, which the first process that uses it creates. Each process remembers it, the revision of the
// settings, and a counter of its own that it increments with each check, once a second:
//
//		             identity gone, or another
//		 in order ────────────────────────────▶ changed
//		    │  ▲ ◀────────────────────────────────┘
//		    │  │     the identity is back, or the store was accepted
//		    ▼  │ accepted
//		went back: count or revision lower than remembered
//
//	  - In order, and went back: the process works. A store that went back needs a fast round of the
//	    comparison. The script that finds it requests the round in Redis, so that a restart does not lose it.
//	  - Changed: the process neither reads nor writes the store; Blocker refuses all use. The API answers 503.
//	    A worker does nothing: it claims, sends, fans out, sweeps, probes and mails nothing, and takes no
//	    task from the queue. The result of a request that was in progress when the store changed cannot be
//	    settled, so that request may be sent again. Allowed are the check itself, what a start does
//	    (environment, format, the first admin token), and the call that accepts the store.
//
// An error, a time-out, a refused or redirected command and a replica's refusal decide nothing: the store is then unavailable,
// not changed. A change is found within a second at most. A request with an unknown token, or about an unknown tenant, is
// answered only after a check of its own.
//
// A process that begins after the change cannot know of it: it accepts the store that it finds.
package storewatch
