package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// applyStep is one run of `lamplighter apply` on the same apps.
type applyStep struct {
	name string
	// title is the name of all apps in this step, which their numbers follow.
	title string
	// counted is the member of apply's answer that counts all apps, status what a PUT answers.
	counted string
	status  int
}

func applySteps() []applyStep {
	return []applyStep{
		{"all are new", "App", "apps_created", http.StatusCreated},
		{"one member of each differs", "Renamed app", "apps_changed", http.StatusOK},
		{"none differs", "Renamed app", "apps_unchanged", http.StatusOK},
	}
}

// measureApply measures each step of `lamplighter apply` beside one client that puts the same documents one after
// another. Each of them has a Redis of its own in each round, since apply reads all apps.
func measureApply(ctx context.Context, b *bench) error {
	steps := applySteps()
	rates := make([][]pair, len(steps))
	for round := range b.rounds {
		values, err := b.rateSteps(ctx, (*stack).applyFile)
		if err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		references, err := b.rateSteps(ctx, (*stack).putDocuments)
		if err != nil {
			return fmt.Errorf("plain PUTs: %w", err)
		}
		for i, step := range steps {
			b.say("apply, %d apps, %s, round %d of %d: %.0f/s, plain PUTs %.0f/s", b.applied, step.name, round+1, b.rounds, values[i], references[i])
			rates[i] = append(rates[i], pair{values[i], references[i]})
		}
	}
	for i, step := range steps {
		m := medianPair(rates[i])
		b.add(newResult(fmt.Sprintf("apply, %d apps, %s", b.applied, step.name), "apps/s", m.value).beside(m.reference))
	}
	return nil
}

// rateSteps carries out the steps in a deployment of their own, and returns the apps per second of each.
func (b *bench) rateSteps(ctx context.Context, carryOut func(*stack, context.Context, applyStep, [][]byte) (time.Duration, error)) ([]float64, error) {
	s, err := b.newStack(ctx)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if _, err := s.serve(ctx, "api"); err != nil {
		return nil, err
	}
	var rates []float64
	for _, step := range applySteps() {
		documents := make([][]byte, b.applied)
		for n := range documents {
			if documents[n], err = s.appDocument(n, step.title); err != nil {
				return nil, err
			}
		}
		took, err := carryOut(s, ctx, step, documents)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		rates = append(rates, float64(b.applied)/took.Seconds())
	}
	return rates, nil
}

// appDocument is an app as a body of PUT; as JSON, it is a document of a file for apply too.
func (s *stack) appDocument(app int, title string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"client_id": appName(app), "name": fmt.Sprintf("%s %d", title, app), "token_algorithm": signing.ES256,
		"technical_contact": map[string]any{"name": "Kim", "email": fmt.Sprintf("kim@partner%d.example", app)},
		"endpoints":         map[string]any{"state_change": map[string]any{"url": appURL(app, s.receivers.port), "enabled": true}},
	})
}

// applyFile runs the command from its start to its end, as an operator does.
func (s *stack) applyFile(ctx context.Context, step applyStep, documents [][]byte) (time.Duration, error) {
	file := filepath.Join(s.dir, "apps.yaml")
	if err := os.WriteFile(file, bytes.Join(documents, []byte("\n---\n")), 0o600); err != nil {
		return 0, fmt.Errorf("write the file to apply: %w", err)
	}
	start := time.Now()
	answer, err := s.command(ctx, "apply", "--file", file, "--secrets-file", filepath.Join(s.dir, "secrets"), "--output", "json")
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	var counts map[string]int
	if err := json.Unmarshal(answer, &counts); err != nil {
		return 0, fmt.Errorf("read apply's answer %s: %w", answer, err)
	}
	if counts[step.counted] != len(documents) {
		return 0, fmt.Errorf("%s is %d, want %d: %s", step.counted, counts[step.counted], len(documents), answer)
	}
	return took, nil
}

// putDocuments puts the documents one after another, over one connection.
func (s *stack) putDocuments(ctx context.Context, step applyStep, documents [][]byte) (time.Duration, error) {
	start := time.Now()
	for n, body := range documents {
		if _, err := s.call(ctx, step.status, http.MethodPut, "/v1/apps/"+appName(n), typeJSON, body); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
