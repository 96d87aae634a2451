package mailbox

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// JobKind is what a job does.
type JobKind string

// The closed set of kinds. A new kind needs its pages, JobKind.IsCancellable, and the API document.
const (
	// JobClear removes a former life's approvals from the tenants' index.
	JobClear JobKind = "clear"
	// JobResync deposits the status of all of an app's tenants again.
	JobResync JobKind = "resync"
	// JobCatchUp deposits what an app never got: of the tenants that approved it before it had a URL.
	JobCatchUp JobKind = "catch_up"
)

// JobKinds lists the closed set.
func JobKinds() []JobKind { return []JobKind{JobClear, JobResync, JobCatchUp} }

// IsCancellable reports whether a caller may cancel the job without leaving an error behind. What an unfinished clear or catch-up
// job left out would be an error, which the service would repair by another job.
func (k JobKind) IsCancellable() bool { return k == JobResync }

// JobState is the state of a job.
type JobState string

// The closed set of states.
const (
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// JobStates lists the closed set.
func JobStates() []JobState { return []JobState{JobRunning, JobDone, JobFailed, JobCancelled} }

// JobReason is why a job's last page failed, or why the job ended in its state.
type JobReason string

// The closed set of reasons. A new reason needs JobReason.Describe and the API document.
const (
	NoReason JobReason = ""
	// StoreAway: Redis did not answer, or refused; StoreFull: it has no memory to spare; FewReplicas: too few
	// replicas confirmed a page.
	StoreAway   JobReason = "store_away"
	StoreFull   JobReason = "store_full"
	FewReplicas JobReason = "few_replicas"
	// Unreadable: a newer version wrote what the page needs.
	Unreadable JobReason = "unreadable"
	// Internal: a fault of the service; the log has the details.
	Internal JobReason = "internal"
	// AppGone: the app was deleted, or deleted and made again, since the job was made.
	AppGone JobReason = "app_gone"
	// NoURL: the app never had a URL.
	NoURL JobReason = "no_url"
	// ByCaller: a caller cancelled it.
	ByCaller JobReason = "by_people"
)

// JobReasons lists the closed set, without NoReason.
func JobReasons() []JobReason {
	return []JobReason{StoreAway, StoreFull, FewReplicas, Unreadable, Internal, AppGone, NoURL, ByCaller}
}

// Describe explains the reason to the readers of a job.
func (r JobReason) Describe() string {
	switch r {
	case NoReason:
		return ""
	case StoreAway:
		return "Redis did not answer, or refused: the page is tried again."
	case StoreFull:
		return "Redis has no memory to spare: the page is tried again, and succeeds once there is some."
	case FewReplicas:
		return "Too few replicas of Redis confirmed a page in time: the job continues when they do."
	case Unreadable:
		return "A newer version wrote what the page needs: a worker of that version continues."
	case AppGone:
		return "The app was deleted, or deleted and made again, since the job was made."
	case NoURL:
		return "The app has no URL yet: the status of all its tenants is deposited when it gets one."
	case ByCaller:
		return "A caller cancelled it: what was requested before is still deposited."
	case Internal:
	}
	return "The service failed at the page, which is tried again: the log of the workers has the cause."
}

// JobID names a job and its key.
type JobID struct {
	App  partner.ClientID
	Kind JobKind
	// Number distinguishes an app's jobs of one kind. The number of a clear job is the birth that ended the former life.
	Number int64
}

// ErrJobID reports a text that names no job.
var ErrJobID = errors.New("not the id of a job")

const (
	jobPrefix = "job_"
	jobBase   = 36
)

// String is "job_<client id>_<kind>_<number, base 36>".
func (id JobID) String() string {
	return jobPrefix + string(id.App) + "_" + string(id.Kind) + "_" + strconv.FormatInt(id.Number, jobBase)
}

// ParseJobID parses the result of String.
func ParseJobID(s string) (JobID, error) {
	rest, ok := strings.CutPrefix(s, jobPrefix)
	at := strings.LastIndexByte(rest, '_')
	if !ok || at < 0 {
		return JobID{}, ErrJobID
	}
	n, err := strconv.ParseInt(rest[at+1:], jobBase, 64)
	if err != nil || n <= 0 {
		return JobID{}, ErrJobID
	}
	for _, k := range JobKinds() {
		name, ok := strings.CutSuffix(rest[:at], "_"+string(k))
		if !ok {
			continue
		}
		app, err := partner.ParseClientID(name)
		id := JobID{App: app, Kind: k, Number: n}
		if err != nil || id.String() != s { // each job has one name
			return JobID{}, ErrJobID
		}
		return id, nil
	}
	return JobID{}, ErrJobID
}

// ClearJobID names the job that clears away after the life that ended with the given birth.
func ClearJobID(life Life) JobID { return JobID{App: life.App, Kind: JobClear, Number: life.Birth} }

// Job is work for a whole app that is done page by page.
type Job struct {
	ID JobID
	// Birth is that of the life that the job belongs to; for a clear job, the birth that ended the life.
	Birth  int64
	State  JobState
	Reason JobReason
	// Done counts tenants, Of is their total. Done is at most Of; the approvals of tenants that are missing at the end were
	// withdrawn. Skipped counts those of them that this version cannot read.
	Done, Of, Skipped int64
	// By is who requested the job, empty for the service itself.
	By, Role                string
	Created, Updated, Ended time.Time
	// Tries is how often the current page failed, RetryAt when it is tried again.
	Tries   int
	RetryAt time.Time
	// cursor and walk are the job's place.
	cursor, walk string
}

// Life returns the life that a deposit job belongs to.
func (j *Job) Life() Life { return Life{App: j.ID.App, Birth: j.Birth} }

// JobLease is how long a claim of a job lasts unless a page renews it.
const JobLease = 15 * time.Second

// JobClaim is the right to make a job's pages.
type JobClaim struct {
	Job

	Token string
}

// JobClaimState is the answer to ClaimJob.
type JobClaimState uint8

// The closed set of answers.
const (
	// JobTaken: the caller makes the job's pages now.
	JobTaken JobClaimState = iota
	// JobBusy: another worker does, or a page failed and waits.
	JobBusy
	// JobEnded: nothing is left to do.
	JobEnded
	// JobAbsent: there is no such job.
	JobAbsent
)

// ErrJobLost reports a page of a job whose claim is over, or that has ended meanwhile. Nothing was written.
var ErrJobLost = errors.New("the claim of the job is over, or the job has ended")

// JobPage is the page at which a deposit job is.
type JobPage struct {
	Tenants []tenant.ID
	// Skipped counts the approvals that this version cannot read.
	Skipped int
	// run and next are the place of the walk behind this page.
	run, next string
}

// PageDeposit describes one call of a page.
type PageDeposit struct {
	// All deposits each status again; else only what was not deposited yet.
	All bool
	// Last: this is the last call for the page. Counted is then the number of all its tenants.
	Last             bool
	Page             JobPage
	Counted, Skipped int
}

// PageResult is the answer to DepositJobPage.
type PageResult struct {
	DepositResult

	// Stale are tenants whose record was older than what the mailbox knows: the job stays at the page. They are marked so that
	// their status is deposited again. The caller reads them again, and deposits them without All.
	Stale []tenant.ID
	// Done: the job has ended.
	Done bool
}

// decodeJob parses a job's HASH; a value that no version writes is ErrFormat.
func decodeJob(id JobID, f map[string]string) (Job, error) {
	num := func(name string) int64 {
		n, _ := strconv.ParseInt(f[name], 10, 64)
		return n
	}
	at := func(name string) time.Time {
		if n := num(name); n > 0 {
			return time.UnixMilli(n).UTC()
		}
		return time.Time{}
	}
	j := Job{
		ID: id, Birth: num("birth"), State: JobState(f["state"]), Reason: JobReason(f["reason"]), Done: num("done"), Of: num("of"), Skipped: num("skipped"),
		By: f["by"], Role: f["role"], Created: at("created"), Updated: at("updated"), Ended: at("ended"), Tries: int(num("tries")), RetryAt: at("retry"),
		cursor: f["cursor"], walk: f["walk"],
	}
	if f["v"] != "1" || !slices.Contains(JobStates(), j.State) || j.Reason != NoReason && !slices.Contains(JobReasons(), j.Reason) {
		return Job{}, ErrFormat
	}
	return j, nil
}
