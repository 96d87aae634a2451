// Command model checks the rules of internal/mailbox by explicit-state search: every interleaving of
// accepts, fan-outs, approvals, scripts, lost answers, late copies, crashes and ticks of the clock
// within the budgets of a small world. It models the rules, not the Lua: change the rules here
// first, run the worlds, and only then change the scripts.
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
//   - an endpoint that answered has no gate, and one that has not gets one post at a time;
//   - where nothing is left to do, every approved app was told the newest of each slot, and what a
//     resync or an approval asked for was told after it was asked;
//   - from every state, faults ended, everything is told within a bounded number of ticks.
//
// What models what:
//
//	script or code             step of the model                    differences
//	wake (prelude.lua)         wake, arm, armed, requeue            generations are equalities; repeats are told apart only while somebody may repeat
//	registry accept.lua        accepts                              a change is a kind and a sequence
//	deposit.lua                deposit, fold, repeats               one tenant a call; no silent status (sequence -1 behaves like one deposited before)
//	admit.lua                  approves, admit, resyncs             the count of dismissals is whether there was one since
//	dismiss.lua                dismiss
//	begin.lua                  begin, starts                        held and gopen only tell, they decide nothing
//	exchange.lua, results      result, prove                        the stamp is whose claim it is; at most two results
//	exchange.lua, claims       runOut, claim                        all that ran out at once, where the script takes 200
//	beat.lua                   beat
//	finish.lua                 finishes, finishesAgain              an endpoint that finish switches off: finish after switches, which leaves the same state
//	switch.lua                 switches; sweeps when it is swept    revisions come in order, for the script ignores older ones
//	open.lua                   opens
//	drop.lua                   deletes, expire                      claims and counters expire together; the revision's guard is not modelled
//	view.lua, inspect.lua      none                                 they only read
//	fanout                     fansOut, deposits                    snapshots of any age since the change that owes them
//	fanout, the owed sweep     a change's fan-out may happen at any time later
//	fanout.Approvals           approves                             in the order index, count, top, admit, record, deposit; the index is not modelled
//	drain, a run               drains, posts, exchanges, finishes   posts claimed together go on in any order; a run may end, or go on, at any time
//	drain, start-by            startsPost
//	queue: tasks               starts                               lost, late, twice or never armed
//
// Where the model is wider than the code (any order, any age, any moment) what it shows holds for the
// code too. Where the code is wider (batches of tenants, revisions, silent statuses, formats) the
// conformance tests and the random interleavings of internal/mailbox compare script and oracle.
//
// A violation is printed with the shortest path that leads to it. The flag -break takes one rule
// away; the search must then find a violation, and the tests see that it does.
package main
