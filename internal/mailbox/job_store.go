package mailbox

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The pauses after pages that fail, and for how long a resync's page may fail before the job ends. A clear job and a catch-up job
// never give up.
const (
	jobPause     = time.Second
	jobPauseMost = time.Minute
	jobGivesUp   = 24 * time.Hour
)

func (s *Store) jobKey(id JobID) string {
	return s.keys.App(id.App, keys.AppJob) + ":" + string(id.Kind) + ":" + strconv.FormatInt(id.Number, jobBase)
}

func (s *Store) jobKeys(id JobID, more ...string) []string {
	return append(append(mailboxKeys(s.keys, id.App), s.jobKey(id), s.keys.App(id.App, keys.AppOpenJobs)), more...)
}

func (s *Store) runJobScript(ctx context.Context, sc *redis.Script, what string, id JobID, args ...any) ([]any, error) {
	v, err := sc.Run(ctx, s.rdb, s.jobKeys(id), append([]any{""}, args...)...).Slice()
	if err != nil {
		return nil, wrapError(what+" job "+id.String()+" in", id.App, err)
	}
	if len(v) == 0 {
		return nil, wrapError(what+" job "+id.String()+" in", id.App, ErrFormat)
	}
	return v, nil
}

// jobMoves is how often MakeDepositJob tries again because the running job changed in between.
const jobMoves = 10

// MakeDepositJob makes the job that deposits the status of an app's tenants, or joins the running one of its kind. Every tenant
// is then deposited once more from now on. It returns the job and the number of approvals. The job SHOULD be listed before, under
// the given id. A repeat with the same id makes no other job.
func (s *Store) MakeDepositJob(ctx context.Context, life Life, id JobID, by, role string) (made JobID, approvals int64, err error) {
	what := "make a job in"
	for range jobMoves {
		open, err := s.rdb.HGet(ctx, s.keys.App(id.App, keys.AppOpenJobs), string(id.Kind)).Result()
		if err != nil && err != redis.Nil { //nolint:errorlint // nothing runs
			return JobID{}, 0, wrapError(what, id.App, err)
		}
		seen, number := id, strconv.FormatInt(id.Number, 10)
		if open != "" {
			if seen.Number, err = strconv.ParseInt(open, 10, 64); err != nil {
				return JobID{}, 0, wrapError(what, id.App, ErrFormat)
			}
		}
		v, err := s.runJobInLife(ctx, s.scripts.jobMake, life, s.jobKeys(id, s.jobKey(seen)), string(id.Kind), number, open, by, role)
		switch {
		case err != nil && len(v) != 3:
			return JobID{}, 0, wrapError(what, id.App, err)
		case len(v) == 3: // with an error the job is made, but too few replicas confirmed it
			made := id
			made.Number = asInteger(v[1])
			return made, asInteger(v[2]), wrapError(what, id.App, err)
		}
	}
	return JobID{}, 0, wrapError(what, id.App, fmt.Errorf("the running job changed %d times", jobMoves))
}

// runJobInLife is runInLife for a script with a job's keys.
func (s *Store) runJobInLife(ctx context.Context, sc *redis.Script, life Life, ks []string, args ...any) ([]any, error) {
	args = append([]any{life.Birth}, args...)
	cmd := sc.Run(ctx, s.rdb, ks, args...)
	if isUnborn(cmd.Err()) {
		if err := s.BeginLife(ctx, life); err != nil {
			return nil, err
		}
		cmd = sc.Run(ctx, s.rdb, ks, args...)
	}
	return readSliceAnswer(cmd)
}

// MakeClearJob makes the job that clears away after the life that ended with the given birth, unless it exists. If there is
// nothing to clear away it makes none, or, with always, a job that is done.
func (s *Store) MakeClearJob(ctx context.Context, life Life, by, role string, always bool) (bool, error) {
	id := ClearJobID(life)
	ks := s.jobKeys(id, s.formerKey(life))
	n, err := s.scripts.jobClear.Run(ctx, s.rdb, ks, "", life.Birth, id.Number, by, role, formatFlag(always)).Int()
	return n == 1, wrapError("make job "+id.String()+" in", id.App, err)
}

// ClaimJob claims a job under a token, which MUST be unique to this claim. For JobBusy, wait is when to try again.
func (s *Store) ClaimJob(ctx context.Context, id JobID, token string) (c JobClaim, is JobClaimState, wait time.Duration, err error) {
	v, err := s.runJobScript(ctx, s.scripts.jobClaim, "claim", id, token, durationMillis(JobLease))
	if err != nil {
		return JobClaim{}, JobBusy, 0, err
	}
	switch {
	case v[0] == "none":
		return JobClaim{}, JobAbsent, 0, nil
	case v[0] == "ended":
		return JobClaim{}, JobEnded, 0, nil
	case v[0] == "busy" && len(v) == 2:
		return JobClaim{}, JobBusy, time.Duration(asInteger(v[1])) * time.Millisecond, nil
	case v[0] == "claimed" && len(v) == 2:
		flat, _ := v[1].([]any)
		fields := map[string]string{}
		for i := 0; i+1 < len(flat); i += 2 {
			fields[asString(flat[i])] = asString(flat[i+1])
		}
		j, err := decodeJob(id, fields)
		return JobClaim{Job: j, Token: token}, JobTaken, 0, wrapError("claim job "+id.String()+" in", id.App, err)
	default:
		return JobClaim{}, JobBusy, 0, wrapError("claim job "+id.String()+" in", id.App, ErrFormat)
	}
}

// ReleaseJob releases the claim of a job, so that another worker continues at once.
func (s *Store) ReleaseJob(ctx context.Context, c JobClaim) error {
	_, _, err := s.settleJob(ctx, c, "release", NoReason)
	return err
}

// FailJob releases a job whose page failed. It returns the job's state and when the page is tried again.
func (s *Store) FailJob(ctx context.Context, c JobClaim, why JobReason) (JobState, time.Duration, error) {
	return s.settleJob(ctx, c, "fail", why)
}

// EndJob ends a job before its last page.
func (s *Store) EndJob(ctx context.Context, c JobClaim, as JobState, why JobReason) error {
	_, _, err := s.settleJob(ctx, c, string(as), why)
	return err
}

func (s *Store) settleJob(ctx context.Context, c JobClaim, what string, why JobReason) (JobState, time.Duration, error) {
	most := int64(0)
	if c.ID.Kind.IsCancellable() {
		most = durationMillis(jobGivesUp)
	}
	v, err := s.runJobScript(ctx, s.scripts.jobSettle, "settle", c.ID, c.Token, what, string(why), durationMillis(jobPause), durationMillis(jobPauseMost), most)
	switch {
	case err != nil:
		return "", 0, err
	case v[0] == "lost":
		return "", 0, fmt.Errorf("job %s: %w", c.ID, ErrJobLost)
	case len(v) != 2:
		return "", 0, wrapError("settle job "+c.ID.String()+" in", c.ID.App, ErrFormat)
	}
	return JobState(asString(v[0])), time.Duration(asInteger(v[1])) * time.Millisecond, nil
}

// CancelJob ends a running job, whichever worker has its claim, and returns its state. A job that has ended keeps its state. The
// state is empty if there is no such job.
func (s *Store) CancelJob(ctx context.Context, id JobID) (JobState, error) {
	v, err := s.scripts.jobCancel.Run(ctx, s.rdb, s.jobKeys(id), "", string(ByCaller)).Text()
	return JobState(v), wrapError("cancel job "+id.String()+" in", id.App, err)
}

// Jobs reads jobs, in one round trip; one that does not exist has no state.
func (s *Store) Jobs(ctx context.Context, ids []JobID) ([]Job, error) {
	cmds := make([]*redis.MapStringStringCmd, len(ids))
	// Each command holds its own error.
	_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HGetAll(ctx, s.jobKey(id))
		}
		return nil
	})
	out := make([]Job, len(ids))
	for i, id := range ids {
		f, err := cmds[i].Result()
		if err != nil {
			return nil, wrapError("read job "+id.String()+" in", id.App, err)
		}
		if out[i] = (Job{ID: id}); len(f) == 0 {
			continue
		}
		if out[i], err = decodeJob(id, f); err != nil {
			return nil, wrapError("read job "+id.String()+" in", id.App, err)
		}
	}
	return out, nil
}

// OpenJobs names the deposit jobs that run for apps, in one round trip; out[i] are those of apps[i].
func (s *Store) OpenJobs(ctx context.Context, apps []partner.ClientID) ([][]JobID, error) {
	cmds := make([]*redis.MapStringStringCmd, len(apps))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			cmds[i] = p.HGetAll(ctx, s.keys.App(app, keys.AppOpenJobs))
		}
		return nil
	})
	if err != nil {
		return nil, wrapError("find the jobs of", "", err)
	}
	out := make([][]JobID, len(apps))
	for i, app := range apps {
		for kind, number := range cmds[i].Val() {
			n, err := strconv.ParseInt(number, 10, 64)
			id := JobID{App: app, Kind: JobKind(kind), Number: n}
			if _, bad := ParseJobID(id.String()); err == nil && bad == nil {
				out[i] = append(out[i], id)
			}
		}
	}
	return out, nil
}

// ReadJobPage reads the page at which a deposit job is.
func (s *Store) ReadJobPage(ctx context.Context, c JobClaim) (JobPage, error) {
	cursor := c.cursor
	if cursor == "" {
		cursor = "0"
	}
	v, err := s.runScript(ctx, s.scripts.walk, "read a page of", c.Life(), cursor, MaxBatch, c.walk)
	if err != nil {
		return JobPage{}, err
	}
	if len(v) < 2 || len(v)%2 != 0 {
		return JobPage{}, wrapError("read a page of", c.ID.App, ErrFormat)
	}
	p := JobPage{run: asString(v[0]), next: asString(v[1])}
	if p.next == "0" {
		p.next = ""
	}
	for i := 2; i < len(v); i += 2 {
		m := decodeMark(tenant.ID(asString(v[i])), asString(v[i+1]))
		if m.Unreadable {
			p.Skipped++
			continue
		}
		p.Tenants = append(p.Tenants, m.Tenant)
	}
	return p, nil
}

// DepositJobPage deposits a page of a deposit job, or MaxBatch of its tenants, and moves the job behind it, in one step. It
// returns ErrJobLost if the claim is over; nothing was written then. If too few replicas confirmed the write, the result is
// returned along with the error. The claim's place is updated.
func (s *Store) DepositJobPage(ctx context.Context, c *JobClaim, nonce string, recs []tenant.Record, t PageDeposit) (told PageResult, err error) {
	what := "deposit a page in"
	if err := checkBatchSize(what, c.ID.App, len(recs)); err != nil {
		return PageResult{}, err
	}
	mode, move := "owed", "stay"
	if t.All {
		mode = "all"
	}
	if t.Last {
		move = "move"
	}
	args := append(s.depositArgs(nil, nonce, toPointers(recs), encodings{}), c.Token, durationMillis(JobLease), mode, move, t.Page.run, t.Page.next, t.Counted, t.Skipped)
	v, err := s.runJobInLife(ctx, s.scripts.retell, c.Life(), s.jobKeys(c.ID), args...)
	switch {
	case len(v) == 1 && v[0] == "lost":
		return PageResult{}, fmt.Errorf("job %s: %w", c.ID, ErrJobLost)
	case len(v) < 5 && err == nil:
		return PageResult{}, wrapError(what, c.ID.App, ErrFormat)
	case len(v) < 5:
		return PageResult{}, wrapError(what, c.ID.App, err)
	}
	told.DepositResult = DepositResult{Wake: s.newWake(v[1], v[2]), Written: int(asInteger(v[3])), Replaced: int(asInteger(v[4]))}
	for _, id := range v[5:] {
		told.Stale = append(told.Stale, tenant.ID(asString(id)))
	}
	if v[0] != "stay" {
		c.cursor, c.walk = t.Page.next, t.Page.run
	}
	told.Done = v[0] == "done"
	return told, wrapError(what, c.ID.App, err)
}

// RemoveFormerApprovals removes a page of former approvals, at most MaxBatch, after the tenants' index was made to match the
// mailbox. It returns how many approvals of that life are left. With the last one the birth is removed from View.Former, and the
// job is done.
func (s *Store) RemoveFormerApprovals(ctx context.Context, c JobClaim, ts []tenant.ID) (left int, err error) {
	what := "clear former approvals in"
	if err := checkBatchSize(what, c.ID.App, len(ts)); err != nil {
		return 0, err
	}
	args := append([]any{"", c.Birth, c.Token, durationMillis(JobLease)}, toScriptArgs(ts)...)
	v, err := readSliceAnswer(s.scripts.clear.Run(ctx, s.rdb, s.jobKeys(c.ID, s.formerKey(c.Life())), args...))
	switch {
	case len(v) == 1 && v[0] == "lost":
		return 0, fmt.Errorf("job %s: %w", c.ID, ErrJobLost)
	case len(v) == 2:
		return int(asInteger(v[1])), wrapError(what, c.ID.App, err)
	case err == nil:
		err = ErrFormat
	}
	return 0, wrapError(what, c.ID.App, err)
}
