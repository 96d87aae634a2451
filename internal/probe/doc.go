// Package probe finds out whether partners' integration endpoints work before the platform's
// engines need them.
//
// A mirroring endpoint gets the Authenticate call that begins every mirroring cycle, with a token
// signed for the occasion, and has to prove in its answer that it holds the app's key. An ERP sync
// or a quote connector gets a call that any SOAP 1.1 service must answer: a Fault is a sign of
// life. All three get a POST, because a broken WCF service still answers a GET with its help page.
//
// The Prober makes one probe and says in words what it found. The Scheduler, of which one in the
// cluster is at work, enqueues a task for each endpoint that comes due; the Runner takes the tasks,
// and what it finds goes to the registry, to the incidents and to the metrics. A task is only an
// alarm clock: what is due stands in the registry, and a lost or doubled task harms nothing.
package probe
