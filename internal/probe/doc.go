// Package probe finds out whether partners' integration endpoints work before the platform's
// engines need them.
//
// A mirroring endpoint gets the Authenticate call that begins every mirroring cycle, with a token signed for this
// probe. Its answer must prove that it holds the app's key. An ERP sync endpoint or a quote connector gets a call
// that any SOAP 1.1 service must answer; a Fault counts as an answer. All three get a POST, because a broken WCF
// service still answers a GET with its help page.
//
// The Prober makes one probe and describes what it found. The Scheduler, of which one in the cluster is active,
// enqueues a task for each endpoint that comes due. The Runner takes the tasks. It writes findings to the registry,
// to the incidents and to the metrics. A task is only a wake-up: the registry stores what is due, so a lost or
// repeated task does no harm. The HealthReader assesses an endpoint by what was found.
package probe
