package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// cpuOf returns the CPU time that the threads of processes have used so far. Threads that have
// ended are missing, which Go programs and Redis seldom let happen.
func cpuOf(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		stats, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
		if err != nil || len(stats) == 0 {
			return 0, fmt.Errorf("read CPU time of process %d: no such process, or no schedstat here", pid)
		}
		for _, name := range stats {
			text, err := os.ReadFile(name) //nolint:gosec // under /proc
			if err != nil {
				continue // a thread that just ended
			}
			field, _, _ := bytes.Cut(text, []byte(" "))
			ns, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}

// signingRate is how many tokens per second all cores together sign.
func signingRate(ctx context.Context, keyFile, alg string, d time.Duration) (float64, error) {
	set, err := signing.LoadKeys(keyFile)
	if err != nil {
		return 0, err
	}
	key, err := set.Signer(alg, time.Now())
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var signed atomic.Int64
	var work sync.WaitGroup
	start := time.Now()
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := signing.SignToken(key, signing.Claims{Tenant: tenantName(n), ClientID: appName(0), Issuer: issuer}, time.Now()); err == nil {
					signed.Add(1)
				}
			}
		})
	}
	work.Wait()
	return float64(signed.Load()) / time.Since(start).Seconds(), nil
}

// pause waits without outliving ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// poll repeats a question until the answer is yes.
func poll(ctx context.Context, within, every time.Duration, what string, ask func() (bool, error)) error {
	deadline := time.Now().Add(within)
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("not within %v: %s", within, what), err)
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}
