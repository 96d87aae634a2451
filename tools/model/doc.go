// Command model checks the rules of internal/mailbox by explicit-state search: every interleaving of
// accepts, fan-outs, approvals, scripts, lost answers, late copies, crashes and ticks of the clock
// within the budgets of a small world. It models the rules, not the Lua: change the rules here
// first, run the worlds, and only then change the scripts.
//
// There are four systems. The mailbox (state.go, rules.go and the files that they use) is the core. What surrounds it has systems
// of its own, in which the mailbox is simpler: a pair of one app and one tenant with the four slots of Redis that hold something
// of it (pair*.go), runs against the settings (runs.go, run_worlds.go), and the door (door.go).
//
// The model says post for an attempt. It says gate for the circuit: a closed gate is an open circuit, and the gate runs out when
// the cool-down is over.
//
// # The mailbox
//
// Time is relative (remaining ticks), and versions, stamps and generations are kept as equalities,
// so the space of states is finite although time is not bounded. In every state it checks:
//
//   - a tenant has at most one post in progress;
//   - what an app gets about a tenant never goes backwards, within a slot and across slots;
//   - a tenant has entries if and only if it is due or in flight, and is never due without entries;
//   - a tenant whose next entry was not tried yet is due at once;
//   - a script that leaves work leaves an owner or a wake-up in time; only time may break that, and
//     the sweep repairs it;
//   - an endpoint that answered has no gate; any other gets at most its round of posts, all of one exchange;
//   - when nothing is left to do, every approved app got the newest change of each slot, and what a
//     resync or an approval requested was delivered after the request;
//   - from every state, if no more faults happen, everything is delivered within a bounded number of ticks.
//
// What models what:
//
//	script or code             step of the model                    differences
//	wake.lua                   wake, arm, armed, requeue            generations are equalities; repeats are recognised only while a repeat is possible
//	registry accept.lua        accepts                              a change is a kind and a sequence
//	deposit.lua                deposit, fold, repeats               one tenant a call; no silent status (sequence -1 behaves like one deposited before)
//	admit.lua                  approves, admit, resyncs             instead of the count and the dismissed tenants: whether the tenant was dismissed since
//	dismiss.lua                dismiss
//	begin.lua                  begin, starts                        held, gopen and sole are left out: no decision depends on them
//	exchange.lua, results      result, prove                        the stamp is the number of the claim's job; at most two results
//	exchange.lua, claims       runOut, claim                        all whose lease ended at once, where the script takes 200; any of them may be probes
//	recalls.lua, recall.lua    recall                               all at once; also without what the endpoint refused
//	beat.lua                   beat
//	finish.lua                 finishes, finishesAgain              an endpoint that finish switches off: finish after switches, which leaves the same state
//	switch.lua                 switches; sweeps when it is swept    revisions come in order, for the script ignores older ones
//	open.lua                   opens
//	life.lua                   deletes, expire                      claims and counters expire together; births are in pair
//	view.lua, inspect.lua      none                                 they only read
//	fanout                     fansOut, deposits                    snapshots of any age since the change of the fan-out
//	fanout, the loop "owed"    a change's fan-out may happen at any time later
//	fanout.Approvals           approves                             in the order index, count, top, admit, record, deposit; the index is in pair
//	drain, a run               drains, posts, exchanges, finishes   posts claimed together go on in any order; a run may end, or go on, at any time
//	drain, start-by            startsPost
//	queue: tasks               starts                               lost, late, twice or never armed
//
// # A pair
//
// One app and one tenant: approve, dismiss and resync in two slots, with match (write, read, write
// again); fan-outs that read ticket, record and index and remove the ticket; an app that is deleted and
// made again, with births, former lives and late calls of them; the steady comparison; in_step. A process
// may die between any two steps of a call; a lost answer is a call that ends there. If one slot loses its
// last writes, it goes back to any earlier state of itself, while calls and posts continue. When nothing is
// left to do, and from every state something leads there:
//
//   - the index matches the mailbox, no approval outlives its app, and no given approval is lost;
//   - each approved app that has a URL got the record's newest sequence, and what was requested again
//     after the request;
//   - no fan-out is pending that is not listed.
//
// Always: no app gets anything about a tenant that approved another app; in_step is true only if the app got
// the state; and what an app gets does not go backwards. After {app} lost its last writes, this last rule holds
// once the posts that were in progress, or were claimed from what was left, have ended and the mailbox knows all
// that was delivered. An approval or a dismissal that {app} lost stays lost: its mailbox is authoritative.
//
//	script or code                 step of the model              differences
//	put_app.lua, delete_app.lua    settings, put                  a revision is a count that no failover takes back
//	life.lua                       life                           former tenants are one tenant
//	prelude.lua, the birth         under, guarded
//	admit.lua                      does, admit
//	dismiss.lua                    does, empty
//	deposit.lua                    brings, deposit                one slot; no silent status
//	clear.lua                      settles                        a page is the one tenant
//	begin, exchange                posts: claim, lands            one post at a time by the claim; no owner, gate or wake-up
//	drain, settings after a claim  posts: "is sent"               another birth: not sent
//	accept.lua, owe.lua            accept                         a sequence is a count that no failover takes back
//	fanout.Fanout                  fanout                         GONE: the apps are read again, as often as it is returned; settings may be a former life's
//	clear.lua, paid.lua            fanout
//	fanout.Approvals               approval, looks                approve ends if it gets GONE; it never uses another life
//	fanout.Repairer, clearing      startsWork, approval           in one page of one tenant
//	compare.Comparer               compare, gap                   one check; a round begins when there is a gap, and now and then
//	raise.lua                      compare: "raises the record"   all slots are one; a change between look and script is newer
//	heal_app.lua                   sweep: "heals the birth"
//	intake.StatusReader, PairState asks                           record, index, mailbox, in this order; no sequence comes twice, so none is above the record's
//
// # Runs against the settings
//
// One endpoint that is written (URL, switch, name) while two runs post to it, with late or lost switches, openings, 410 and
// owners' leases that end. A run of an older endpoint, or one that began before an opening, closes no gate and switches nothing
// off. A write that does not change URL and switch is no opening. No run posts to a URL older than one that was written before it
// took the mailbox, or than one that the mailbox knew before it claimed again. In the end the mailbox's switch is the endpoint's,
// and no gate belongs to an older endpoint.
//
//	script or code                 step of the model              differences
//	put_app.lua                    writes, switchesOff
//	switch.lua, the arming loop    tells                          late, lost, or from the sweep
//	open.lua                       opened
//	begin.lua                      begins                         the epoch is kept as an equality
//	exchange.lua, claims again     run: "claims again"            an outdated run claims nothing
//	finish.lua                     finishes, switchesOff
//
// # The door
//
// One caller and one tenant: requests of several changes, repeated under their key until every change is answered, while a
// request that the caller gave up continues. Changes meet errors, lose their answers or arrive late. They are accepted once each
// and in the caller's order. Without keys only the library repeats, and the caller continues.
//
//	script or code                 step of the model
//	accept.lua                     accept
//	the handler, Store.Accept      request
//	the Redis library's repeat     request: "sent again"
//
// Not modelled: that approvals and resyncs deposit the state that pull answers depends on values, not on order. Tests of
// internal/tenant and internal/fanout check it.
//
// # How far it goes
//
// Where the model is wider than the code (any order, any age, any moment), its result holds for the code too. Where the code is
// wider (batches of tenants, revisions, silent statuses, formats), the conformance tests and the random interleavings of
// internal/mailbox compare script and oracle.
//
// A violation is printed with the shortest path that leads to it. The flag -break removes one rule; the search must then find a
// violation, and the tests check that it does.
package main
