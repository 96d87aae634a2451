// Command model checks the rules of internal/mailbox by explicit-state search: every interleaving of
// accepts, fan-outs, approvals, scripts, lost answers, late copies, crashes and ticks of the clock
// within the budgets of a small world. It models the rules, not the Lua: change the rules here
// first, run the worlds, and only then change the scripts.
//
// There are four systems. The mailbox (state.go, rules.go and what they name) is the core. What lies
// around it has systems of its own, in which the mailbox is simpler: a pair of one app and one tenant with
// the four slots of Redis that hold something of it (pair*.go), runs against the settings (runs.go,
// run_worlds.go), and the door (door.go).
//
// # The mailbox
//
// Time is relative (ticks that remain) and versions, stamps and generations are kept as equalities,
// so the space of states is finite although time is not bounded. In every state it checks:
//
//   - a tenant has at most one post on its way;
//   - what an app hears of a tenant never goes backwards, within a slot and across slots;
//   - a tenant has entries if and only if it is due or in flight, and is never due without entries;
//   - a tenant whose next entry was not tried yet is due at once;
//   - a script that leaves work leaves an owner or a wake-up in time; time alone may break that, and
//     the sweep repairs it;
//   - an endpoint that answered has no gate, and one that has not gets at most its round of posts, all of one exchange;
//   - where nothing is left to do, every approved app was told the newest of each slot, and what a
//     resync or an approval asked for was told after it was asked;
//   - from every state, faults ended, everything is told within a bounded number of ticks.
//
// What models what:
//
//	script or code             step of the model                    differences
//	wake.lua                   wake, arm, armed, requeue            generations are equalities; repeats are told apart only while somebody may repeat
//	registry accept.lua        accepts                              a change is a kind and a sequence
//	deposit.lua                deposit, fold, repeats               one tenant a call; no silent status (sequence -1 behaves like one deposited before)
//	admit.lua                  approves, admit, resyncs             the count, and whom dismissals meant, is whether there was one of the tenant since
//	dismiss.lua                dismiss
//	begin.lua                  begin, starts                        held, gopen and sole only tell, they decide nothing
//	exchange.lua, results      result, prove                        the stamp is whose claim it is; at most two results
//	exchange.lua, claims       runOut, claim                        all that ran out at once, where the script takes 200; which are probes is open
//	recalls.lua, recall.lua    recall                               all at once; also without what the endpoint refused
//	beat.lua                   beat
//	finish.lua                 finishes, finishesAgain              an endpoint that finish switches off: finish after switches, which leaves the same state
//	switch.lua                 switches; sweeps when it is swept    revisions come in order, for the script ignores older ones
//	open.lua                   opens
//	life.lua                   deletes, expire                      claims and counters expire together; births are in pair
//	view.lua, inspect.lua      none                                 they only read
//	fanout                     fansOut, deposits                    snapshots of any age since the change that owes them
//	fanout, the owed sweep     a change's fan-out may happen at any time later
//	fanout.Approvals           approves                             in the order index, count, top, admit, record, deposit; the index is in pair
//	drain, a run               drains, posts, exchanges, finishes   posts claimed together go on in any order; a run may end, or go on, at any time
//	drain, start-by            startsPost
//	queue: tasks               starts                               lost, late, twice or never armed
//
// # A pair
//
// One app and one tenant: approve, dismiss and resync in two slots, with match (write, look, write
// again); fan-outs that read ticket, record and index and strike off; an app that is deleted and made
// again, with births, former lives and late calls of them; the steady comparison; in_step. A process may
// die between any two steps of a call; an answer that is lost is a call that ends there. Where one slot
// loses its last writes it goes back to any earlier state of itself, while calls and posts go on. Where
// nothing is left to do, and from every state something leads there:
//
//   - the index is as the mailbox, no approval outlives its app, and none that was given is lost;
//   - each approved app that hears was told the record's newest sequence, and what was asked for again
//     after it was asked;
//   - nothing is owed that is listed nowhere.
//
// Always: nobody hears of a tenant that approved another's app; in_step is true only if the app was
// told; and what is told does not go backwards. After {app} lost its last writes this last one holds once
// the posts that were out, or were claimed from what was left, have ended and the mailbox knows all that
// was told. An approval or a dismissal that {app} lost stays lost: its mailbox decides.
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
//	fanout.Fanout                  fanout                         GONE: the apps are read anew, as often as it is answered; settings may be a former life's
//	clear.lua, paid.lua            fanout
//	fanout.Approvals               approval, looks                approve ends where it is answered GONE; it never takes another life
//	fanout.Repairer, clearing      startsWork, approval           in one page of one tenant
//	compare.Comparer               compare, gap                   one look; a round begins when there is a gap, and now and then
//	raise.lua                      compare: "raises the record"   all slots are one; a change between look and script is newer
//	heal_app.lua                   sweep: "heals the birth"
//	intake.StatusReader, PairState asks                           record, index, mailbox, in this order; no sequence comes twice, so none is above the record's
//
// # Runs against the settings
//
// One endpoint that is written (URL, switch, name) while two runs post to it, with switches late or
// lost, openings, 410 and owners' leases that end. A run of an older endpoint, or one that began before
// an opening, closes no gate and switches nothing off; a write that leaves URL and switch alone voids
// nothing; no run posts to an older URL than was written before it took the mailbox, or than the mailbox
// was told of before it claimed again; in the end the mailbox's switch is as it is set and no gate is an
// older endpoint's.
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
// One caller and one tenant: requests of several changes, repeated under their key until every change is
// answered, while a request that the caller gave up goes on. Changes meet errors, lose their answers or
// arrive late. They are accepted once each and in the caller's order. Without keys the library alone
// repeats, and the caller goes on.
//
//	script or code                 step of the model
//	accept.lua                     accept
//	the handler, Store.Accept      request
//	the Redis library's repeat     request: "sent again"
//
// Not here: that approvals and resyncs tell the state which pull shows is a matter of values, not of
// order: a test of internal/tenant and internal/fanout has it.
//
// # How far it goes
//
// Where the model is wider than the code (any order, any age, any moment) what it shows holds for the
// code too. Where the code is wider (batches of tenants, revisions, silent statuses, formats) the
// conformance tests and the random interleavings of internal/mailbox compare script and oracle.
//
// A violation is printed with the shortest path that leads to it. The flag -break takes one rule
// away; the search must then find a violation, and the tests see that it does.
package main
