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

// The closed set of kinds. Adding one means: its pages, JobKind.Cancellable, and the API document.
const (
	// JobClear takes a former life's approvals off the tenants' index.
	JobClear JobKind = "clear"
	// JobResync tells an app the status of all its tenants again.
	JobResync JobKind = "resync"
	// JobCatchUp tells an app what it was never told: of the tenants that approved it before it had a URL.
	JobCatchUp JobKind = "catch_up"
)

// JobKinds lists the closed set.
func JobKinds() []JobKind { return []JobKind{JobClear, JobResync, JobCatchUp} }

// IsCancellable reports whether people may end it: then nothing is left behind. What a clearing or a catching up left out
// would be an error, which the service repairs by another job.
func (k JobKind) IsCancellable() bool { return k == JobResync }

// JobState is where a job stands.
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

// JobReason is why a job's last page failed, or why it ended as it did.
type JobReason string

// The closed set of reasons. Adding one means: JobReason.Words and the API document.
const (
	NoReason JobReason = ""
	// StoreAway: Redis did not answer, or refused; StoreFull: it has no memory to spare; FewReplicas: too few
	// replicas confirmed a page.
	StoreAway   JobReason = "store_away"
	StoreFull   JobReason = "store_full"
	FewReplicas JobReason = "few_replicas"
	// Unreadable: a newer version wrote what the page needs.
	Unreadable JobReason = "unreadable"
	// Internal: the service's own fault; the log has it.
	Internal JobReason = "internal"
	// AppGone: the app was deleted, or deleted and made again, since the job was made.
	AppGone JobReason = "app_gone"
	// NoURL: the app never had a URL to be told at.
	NoURL JobReason = "no_url"
	// ByCaller: somebody cancelled it.
	ByCaller JobReason = "by_people"
)

// JobReasons lists the closed set, without NoReason.
func JobReasons() []JobReason {
	return []JobReason{StoreAway, StoreFull, FewReplicas, Unreadable, Internal, AppGone, NoURL, ByCaller}
}

// Describe says it to people.
func (r JobReason) Describe() string {
	switch r {
	case NoReason:
		return ""
	case StoreAway:
		return "Redis did not answer, or refused: the page is tried again."
	case StoreFull:
		return "Redis has no memory to spare: the page is tried again, and goes on when there is some."
	case FewReplicas:
		return "Too few replicas of Redis confirmed a page in time: the job goes on when they do."
	case Unreadable:
		return "A newer version wrote what the page needs: a worker of that version goes on."
	case AppGone:
		return "The app was deleted, or deleted and made again, since the job was made."
	case NoURL:
		return "The app has no URL yet: it is told of all its tenants when it gets one."
	case ByCaller:
		return "Somebody cancelled it: what was asked for before stays asked for."
	case Internal:
	}
	return "The service failed at the page, which is tried again: the log of the workers has the cause."
}

// JobID names a job, and where it lies.
type JobID struct {
	App  partner.ClientID
	Kind JobKind
	// Number tells an app's jobs of one kind apart. That of a clearing is the birth that ended the former life.
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

// ParseJobID reads what String made.
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
	// Birth is that of the life it is for; of a clearing, that which ended the life.
	Birth  int64
	State  JobState
	Reason JobReason
	// Done counts tenants, Of how many there are: at most so many are done, and as many as are left when it ends were
	// withdrawn. Skipped are those of them that this version cannot read.
	Done, Of, Skipped int64
	// By asked for it, empty for the service itself.
	By, Role                string
	Created, Updated, Ended time.Time
	// Tries is how often the page at hand failed, RetryAt when it is tried again.
	Tries   int
	RetryAt time.Time
	// cursor and walk are where it is.
	cursor, walk string
}

// Life is the life that a telling job is for.
func (j *Job) Life() Life { return Life{App: j.ID.App, Birth: j.Birth} }

// JobLease is how long a claim of a job lasts that makes no page.
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
	// JobTaken: the caller makes its pages now.
	JobTaken JobClaimState = iota
	// JobBusy: another does, or a page failed and waits.
	JobBusy
	// JobEnded: there is nothing to do any more.
	JobEnded
	// JobAbsent: there is no such job.
	JobAbsent
)

// ErrJobLost reports a page of a job whose claim is over, or that has ended meanwhile: nothing was written.
var ErrJobLost = errors.New("the claim of the job is over, or the job has ended")

// JobPage is what a telling job has at hand.
type JobPage struct {
	Tenants []tenant.ID
	// Skipped counts the approvals that this version cannot read.
	Skipped int
	// run and next are where the walk is behind this page.
	run, next string
}

// PageDeposit is one call of a page.
type PageDeposit struct {
	// All tells each status again; else what was not told yet.
	All bool
	// Last: the page is told with this call. Counted are all of its tenants then.
	Last             bool
	Page             JobPage
	Counted, Skipped int
}

// PageResult is the answer to Tell.
type PageResult struct {
	DepositResult

	// Stale are tenants whose record was older than what the mailbox knows: the job stays at the page. They bear the mark
	// that asks for their telling: read them anew, and tell them without All.
	Stale []tenant.ID
	// Done: the job has ended.
	Done bool
}

// decodeJob reads a job's HASH; a value that nobody writes is ErrFormat.
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
