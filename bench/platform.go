package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	typeJSON  = "application/json"
	typeLines = "application/x-ndjson"
)

// register creates apps that take their notifications at the receivers and are approved by the
// tenants [0, tenants).
func (s *stack) register(ctx context.Context, apps, tenants int, alg string) error {
	start := time.Now()
	s.apps = apps
	var lines bytes.Buffer
	for n := range tenants {
		fmt.Fprintf(&lines, `{"tenant":"%s"}`+"\n", tenantName(n))
	}
	err := each(ctx, apps, func(ctx context.Context, app int) error {
		return s.registerApp(ctx, app, appURL(app, s.receivers.port), alg, lines.Bytes(), tenants)
	})
	if err != nil {
		return fmt.Errorf("register %d apps: %w", apps, err)
	}
	s.b.say("%d apps with %d approvals each in %.1fs", apps, tenants, time.Since(start).Seconds())
	return nil
}

func (s *stack) registerApp(ctx context.Context, app int, url, alg string, approvals []byte, tenants int) error {
	body := fmt.Sprintf(`{"name":"App %d","token_algorithm":"%s","technical_contact":{"name":"Kim","email":"kim@partner%d.example"},`+
		`"endpoints":{"state_change":{"url":"%s","enabled":true}}}`, app, alg, app, url)
	if _, err := s.call(ctx, http.StatusCreated, http.MethodPut, "/v1/apps/"+appName(app), typeJSON, []byte(body)); err != nil {
		return err
	}
	answer, err := s.call(ctx, http.StatusOK, http.MethodPut, "/v1/apps/"+appName(app)+"/approvals", typeLines, approvals)
	if err != nil {
		return err
	}
	return allDone(answer, `"status":204`, tenants)
}

func allDone(answer []byte, mark string, want int) error {
	if n := bytes.Count(answer, []byte(mark)); n != want {
		return fmt.Errorf("only %d of %d lines were accepted; the answer begins: %s", n, want, answer[:min(300, len(answer))])
	}
	return nil
}

// change is what the platform reports of one sample.
func change(epoch, sample, offset int) string {
	return `{"tenant":"` + tenantName(offset+sample) + `","change_type":"suspend","version_name":"` + versionName(epoch, sample) +
		`","file_version":"` + fileVersion + `"}`
}

// publish reports a change of each of the tenants [offset, offset+samples) in one NDJSON body.
func (s *stack) publish(ctx context.Context, epoch, samples, offset int) error {
	var lines bytes.Buffer
	for n := range samples {
		lines.WriteString(change(epoch, n, offset))
		lines.WriteByte('\n')
	}
	answer, err := s.call(ctx, http.StatusOK, http.MethodPost, "/v1/state-changes", typeLines, lines.Bytes())
	if err != nil {
		return err
	}
	return allDone(answer, `"status":202`, samples)
}

// switchAll pauses or resumes the apps [from, to).
func (s *stack) switchAll(ctx context.Context, from, to int, verb string) error {
	err := each(ctx, to-from, func(ctx context.Context, i int) error {
		_, err := s.call(ctx, http.StatusOK, http.MethodPost, "/v1/apps/"+appName(from+i)+"/"+verb, "", nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s apps: %w", verb, err)
	}
	return nil
}

// awaitWaiting waits until so many notifications wait for all apps together.
func (s *stack) awaitWaiting(ctx context.Context, want int) error {
	return poll(ctx, patience, 50*time.Millisecond, strconv.Itoa(want)+" notifications wait", func() (bool, error) {
		n, err := s.redis.waiting(ctx, s.apps)
		if err == nil && n != want {
			err = fmt.Errorf("%d wait", n)
		}
		return err == nil, err
	})
}
