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
// A violation is printed with the shortest path that leads to it. The flag -break takes one rule
// away; the search must then find a violation, and the tests see that it does.
package main
