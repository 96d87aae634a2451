// Package keys names every Redis key of the service. All keys of one script share a hash tag, so that each script runs on one
// Cluster slot: the app's, the tenant's, or one of two global ones. Suffixes are unique over all kinds, because a tenant and an
// app may have the same id.
package keys

import (
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// DefaultPrefix starts every key unless redis.prefix sets another.
const DefaultPrefix = "lamplighter"

// Space makes keys under one prefix. Two environments on one Redis need two prefixes.
type Space struct{ prefix string }

// New returns the keys under a prefix, DefaultPrefix when it is empty.
func New(prefix string) Space {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return Space{prefix: prefix}
}

// Prefix returns the prefix.
func (s Space) Prefix() string { return s.prefix }

func (s Space) buildKey(tag, suffix string) string { return s.prefix + ":{" + tag + "}:" + suffix }

// App is a key in an app's slot.
func (s Space) App(id partner.ClientID, suffix AppKey) string {
	return s.buildKey(string(id), string(suffix))
}

// Tenant is a key in a tenant's slot.
func (s Space) Tenant(id tenant.ID, suffix TenantKey) string {
	return s.buildKey(string(id), string(suffix))
}

// Config is a key in the slot of the service's own settings.
func (s Space) Config(suffix ConfigKey) string { return s.buildKey("config", string(suffix)) }

// Pending is a key in the slot of pending fan-outs.
func (s Space) Pending(suffix PendingKey) string { return s.buildKey("owed", string(suffix)) }

// Recipient is a key in the slot of a mail recipient, which is named by a hash of the address.
func (s Space) Recipient(recipient string, suffix RecipientKey) string {
	return s.buildKey(recipient, string(suffix))
}

// IndexPattern returns what stands before and after the tenant id in the key of a tenant's TenantApprovals.
func (s Space) IndexPattern() (before, after string) {
	return s.prefix + ":{", "}:" + string(TenantApprovals)
}

// AppKey is the suffix of a key in an app's slot.
type AppKey string

// Keys in an app's slot.
const (
	// AppTenants HASH tenant -> "<known>" or "<known>*": the approvals.
	AppTenants AppKey = "tenants"
	// AppWaiting HASH "<tenant>|<slot>" -> entry.
	AppWaiting AppKey = "waiting"
	// AppDue ZSET tenant -> earliest claim time, ms.
	AppDue AppKey = "due"
	// AppFlight ZSET tenant -> end of its claim's lease, ms.
	AppFlight AppKey = "flight"
	// AppMailbox HASH of the mailbox's own state.
	AppMailbox AppKey = "mailbox"
	// AppDeliveries LIST of recent attempts, newest first.
	AppDeliveries AppKey = "deliveries"
	// AppIncidents HASH endpoint -> incident state.
	AppIncidents AppKey = "incidents"
	// AppHistory ZSET of closed incidents by closing time, ms.
	AppHistory AppKey = "incident_history"
	// AppReports HASH endpoint -> what engines reported and the incident does not include yet.
	AppReports AppKey = "reports"
	// AppReported starts the keys of the tenants whose calls failed, a SET per endpoint.
	AppReported AppKey = "reported"
	// AppReportKeys starts the keys that remember which lines of an idempotent call were reported.
	AppReportKeys AppKey = "report_lines"
	// AppOutbox HASH mail id -> mail that must be sent.
	AppOutbox AppKey = "outbox"
	// AppSettled ZSET id of a mail that was sent or failed -> when the entry is removed, ms.
	AppSettled AppKey = "outbox_settled"
	// AppProbes HASH endpoint -> "1;<due ms>;<end of the claim, ms>;<stamp>;<state of its probes>".
	AppProbes AppKey = "probes"
	// AppDismissed ZSET tenant -> number of the dismissal that withdrew its approval, of the most recent ones; expires.
	AppDismissed AppKey = "dismissed"
	// AppFormer starts the HASHes of approvals of former lives, each named by the birth that followed.
	AppFormer AppKey = "former"
	// AppJob starts the HASHes of jobs, each named by its kind and number.
	AppJob AppKey = "job"
	// AppOpenJobs HASH kind -> number of the job of that kind that runs.
	AppOpenJobs AppKey = "open_jobs"
)

// AppLife lists the keys beside the mailbox that are deleted when the app's life ends.
func (s Space) AppLife(id partner.ClientID) []string {
	out := []string{
		s.App(id, AppIncidents), s.App(id, AppHistory), s.App(id, AppReports), s.App(id, AppOutbox), s.App(id, AppSettled), s.App(id, AppProbes), s.App(id, AppDeliveries),
		s.App(id, AppDismissed),
	}
	for _, k := range partner.AllEndpointKinds() {
		out = append(out, s.App(id, AppReported)+":"+k.String())
	}
	return out
}

// TenantKey is the suffix of a key in a tenant's slot.
type TenantKey string

// Keys in a tenant's slot.
const (
	// TenantRecord HASH: status, top, newest change of each slot, fan-out mark.
	TenantRecord TenantKey = "record"
	// TenantApprovals SET of the client ids that approved.
	TenantApprovals TenantKey = "approvals"
	// TenantChanges ZSET of accepted changes by sequence.
	TenantChanges TenantKey = "changes"
	// TenantAnswers starts the keys that remember an idempotent call's answer.
	TenantAnswers TenantKey = "answer"
)

// ConfigKey is the suffix of a key in the settings' slot.
type ConfigKey string

// Keys in the settings' slot.
const (
	// ConfigApps HASH client id -> "<revision>;<app document>".
	ConfigApps ConfigKey = "apps"
	// ConfigIndex ZSET of client ids, all of score 0: pages through the apps in order.
	ConfigIndex ConfigKey = "apps_index"
	// ConfigSecrets HASH client id -> sealed webhook secrets.
	ConfigSecrets ConfigKey = "secrets"
	// ConfigLives HASH client id -> "<birth>;<digest of the state-change endpoint>;<revision at which that changed>".
	ConfigLives ConfigKey = "lives"
	// ConfigRevision STR revision of the settings, which each change raises.
	ConfigRevision ConfigKey = "revision"
	// ConfigHistory ZSET of the last revisions of the settings that were given out.
	ConfigHistory ConfigKey = "history"
	// ConfigChanged ZSET client id -> revision of its last change, of apps that exist.
	ConfigChanged ConfigKey = "changed"
	// ConfigRemoved ZSET client id -> revision of its removal, of the most recently removed apps.
	ConfigRemoved ConfigKey = "removed"
	// ConfigFeed HASH: revision of what engines see, and the oldest revision that a poll may still name.
	ConfigFeed ConfigKey = "feed"
	// ConfigFeedParts HASH client id -> digest of what engines see of the app.
	ConfigFeedParts ConfigKey = "feed_parts"
	// ConfigFeedChanged ZSET client id -> revision of the feed at which what engines see of it changed.
	ConfigFeedChanged ConfigKey = "feed_changed"
	// ConfigFeedRemoved ZSET client id -> revision of the feed at which nothing was left to see.
	ConfigFeedRemoved ConfigKey = "feed_removed"
	// ConfigFeedHistory ZSET of the last revisions of the feed that were given out.
	ConfigFeedHistory ConfigKey = "feed_history"
	// ConfigTokens HASH token id -> token record.
	ConfigTokens ConfigKey = "tokens"
	// ConfigTokenHashes HASH hash of a token's secret part -> token id.
	ConfigTokenHashes ConfigKey = "token_hashes"
	// ConfigTokenUses HASH token id -> when it was last used, ms.
	ConfigTokenUses ConfigKey = "token_uses"
	// ConfigTokenLast HASH role -> id of the token of that role that was added most recently.
	ConfigTokenLast ConfigKey = "token_last"
	// ConfigAudit STREAM of writes by staff and the service, and of all that is done to tokens.
	ConfigAudit ConfigKey = "audit"
	// ConfigAuditPartners STREAM of writes by partners.
	ConfigAuditPartners ConfigKey = "audit_partners"
	// ConfigAuditCount STRING: how many entries partners have made in that stream.
	ConfigAuditCount ConfigKey = "audit_count"
	// ConfigAuditOf starts the LISTs of one partner's entries in that stream, oldest first, each named by its app.
	ConfigAuditOf ConfigKey = "audit_of"
	// ConfigAuditChanges STREAM of accepted state changes.
	ConfigAuditChanges ConfigKey = "audit_changes"
	// ConfigIdempotency starts the keys that bind an idempotency key to its body.
	ConfigIdempotency ConfigKey = "idempotency"
	// ConfigOnce starts the HASHes of requests that are carried out once.
	ConfigOnce ConfigKey = "once"
	// ConfigOnceOf starts the ZSETs of one caller's keys by expiry, ms.
	ConfigOnceOf ConfigKey = "once_of"
	// ConfigEnvironment STRING: the environment that owns this prefix.
	ConfigEnvironment ConfigKey = "environment"
	// ConfigFormat STRING: the highest format that any version writes that has run here.
	ConfigFormat ConfigKey = "format"
	// ConfigIdentity STRING "<identity> <identity that it took over from>…": which store this is.
	ConfigIdentity ConfigKey = "identity"
	// ConfigRefused SET of the identities whose processes refuse the store in its present state; expires.
	ConfigRefused ConfigKey = "identity_refused"
	// ConfigCounts starts the keys that count how often each process checked the store, STRINGs that expire.
	ConfigCounts ConfigKey = "count"
	// ConfigFastRound STRING: when a fast round of the comparison was last requested, in microseconds of Redis's clock; absent
	// when no fast round is pending.
	ConfigFastRound ConfigKey = "fast_round"
	// ConfigLeases starts the keys of work that one process does for all.
	ConfigLeases ConfigKey = "lease"
	// ConfigLoops starts the HASHes of how far each loop came, beside its lease.
	ConfigLoops ConfigKey = "loop"
	// ConfigGauges STRING: the cluster's state as it was last counted.
	ConfigGauges ConfigKey = "gauges"
	// ConfigComparison HASH: how far the comparison of all pairs came.
	ConfigComparison ConfigKey = "comparison"
	// ConfigJobs ZSET job -> when it was listed, in microseconds of Redis's clock, or one more than the previous one.
	ConfigJobs ConfigKey = "jobs"
	// ConfigJobsDue ZSET of the jobs that run -> when a runner should next check it, ms.
	ConfigJobsDue ConfigKey = "jobs_due"
	// ConfigProbes STRING: the integration endpoints' health as one process last counted it.
	ConfigProbes ConfigKey = "probe_summary"
	// ConfigReach HASH process -> "<when, ms>;<what it saw of hosts recently>", see reach.lua; expires.
	ConfigReach ConfigKey = "reach"
	// ConfigCommonCause STRING: the newest common cause, see package commoncause; expires.
	ConfigCommonCause ConfigKey = "common_cause"
	// ConfigSuppressed SET of "client id|recipient" that want no mail.
	ConfigSuppressed ConfigKey = "suppressed"
	// ConfigUnasked SET of the queues of confirmations whose recipients refuse further confirmations.
	ConfigUnasked ConfigKey = "unasked"
	// ConfigMailQueues ZSET recipient, or queue of confirmations -> when its mail queue was last listed, ms.
	ConfigMailQueues ConfigKey = "trays"
)

// RecipientKey is the suffix of a key in a recipient's slot.
type RecipientKey string

// Keys in a recipient's slot.
const (
	// RecipientMailQueue HASH of the mails, or of the confirmations, that are to be sent to one recipient, see tray_put.lua.
	RecipientMailQueue RecipientKey = "tray"
)

// PendingKey is the suffix of a key in the slot of pending fan-outs.
type PendingKey string

// Keys in the slot of pending fan-outs.
const (
	// PendingTenants ZSET tenant -> ticket of the latest accept.
	PendingTenants PendingKey = "tenants_owed"
	// PendingApprovals ZSET "client id|tenant|call" -> ticket of the call that began to change the approval.
	PendingApprovals PendingKey = "approvals_owed"
	// PendingTicket STRING: the last ticket, in microseconds of Redis's clock, or one more than the previous ticket.
	PendingTicket PendingKey = "ticket"
)
