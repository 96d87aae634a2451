package registry

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// The scripts of the lists of jobs.
var (
	listJobs = newScript("jobs_list")
	dueJobs  = newScript("jobs_due")
	lookJobs = newScript("jobs_look")
)

const (
	// jobsKeep is how long a job is listed after it was made, and at least while it runs: a day longer than its own record is
	// kept. jobsMost is how many are listed beside those that run, jobsTrim how many old ones one listing examines.
	jobsKeep = 8 * 24 * time.Hour
	jobsMost = 10_000
	jobsTrim = 100
	// madeWithin is how long a job may be listed before it is made: normally that takes milliseconds; after a crash it never
	// happens.
	madeWithin = 10 * time.Minute
)

func (s *Store) jobListKeys() []string { return s.configKeys(keys.ConfigJobs, keys.ConfigJobsDue) }

// RegisterJobs lists jobs as running, before they are made, so that runners find them. It may be repeated.
func (s *Store) RegisterJobs(ctx context.Context, ids ...string) error {
	args := []any{jobsKeep.Microseconds(), jobsMost, jobsTrim}
	for _, id := range ids {
		args = append(args, id)
	}
	return wrapError(listJobs.run(ctx, s.durable, s.jobListKeys(), args...).Err(), "list jobs")
}

// TakeDueJobs takes at most limit jobs that are due. Each is due again after next, unless RescheduleJob changes that.
func (s *Store) TakeDueJobs(ctx context.Context, limit int, next time.Duration) ([]string, error) {
	ids, err := dueJobs.run(ctx, s.rdb, s.configKeys(keys.ConfigJobsDue), limit, next.Milliseconds()).StringSlice()
	return ids, wrapError(err, "take due jobs")
}

// RescheduleJob sets when a job is due next.
func (s *Store) RescheduleJob(ctx context.Context, id string, in time.Duration) error {
	return wrapError(lookJobs.run(ctx, s.rdb, s.jobListKeys(), id, in.Milliseconds(), "").Err(), "reschedule job %s", id)
}

// DropAbsentJob removes a job that was listed and never made, or reschedules it while it may still be made.
func (s *Store) DropAbsentJob(ctx context.Context, id string, in time.Duration) error {
	return wrapError(lookJobs.run(ctx, s.rdb, s.jobListKeys(), id, in.Milliseconds(), madeWithin.Microseconds()).Err(), "drop job %s", id)
}

// RemoveEndedJob removes a job from the list of running ones. It stays in the list that is shown.
func (s *Store) RemoveEndedJob(ctx context.Context, id string) error {
	return wrapError(s.rdb.ZRem(ctx, s.keys.Config(keys.ConfigJobsDue), id).Err(), "remove ended job %s", id)
}

// ForgetJob removes a job from all lists: it was not made, because another one runs.
func (s *Store) ForgetJob(ctx context.Context, id string) error {
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRem(ctx, s.keys.Config(keys.ConfigJobsDue), id)
		p.ZRem(ctx, s.keys.Config(keys.ConfigJobs), id)
		return nil
	})
	return wrapError(err, "forget job %s", id)
}

// ListedJob is a job of the list, and when it was listed, in µs.
type ListedJob struct {
	ID     string
	Listed int64
}

// ListedJobs lists the jobs that run or ended recently, newest first, at most limit. before is the time behind which the list
// begins, 0 for all. Some of the jobs may not exist.
func (s *Store) ListedJobs(ctx context.Context, before int64, limit int) ([]ListedJob, error) {
	most := "+inf"
	if before > 0 {
		most = "(" + strconv.FormatInt(before, 10)
	}
	zs, err := s.rdb.ZRevRangeByScoreWithScores(ctx, s.keys.Config(keys.ConfigJobs), &redis.ZRangeBy{Min: "-inf", Max: most, Count: int64(limit)}).Result()
	out := make([]ListedJob, len(zs))
	for i, z := range zs {
		out[i].ID, _ = z.Member.(string)
		out[i].Listed = int64(z.Score)
	}
	return out, wrapError(err, "list jobs")
}

// RunningJobs lists the jobs that run, at most limit behind the first skip ones, and when each was listed.
func (s *Store) RunningJobs(ctx context.Context, skip, limit int) ([]ListedJob, error) {
	ids, err := s.rdb.ZRange(ctx, s.keys.Config(keys.ConfigJobsDue), int64(skip), int64(skip+limit-1)).Result()
	if err != nil || len(ids) == 0 {
		return nil, wrapError(err, "list running jobs")
	}
	scores, err := s.rdb.ZMScore(ctx, s.keys.Config(keys.ConfigJobs), ids...).Result()
	if err != nil {
		return nil, wrapError(err, "list running jobs")
	}
	out := make([]ListedJob, len(ids))
	for i, id := range ids {
		out[i] = ListedJob{ID: id, Listed: int64(scores[i])}
	}
	return out, nil
}
