package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// issuer is what the service puts in its tokens by default.
const issuer = "https://online.superoffice.com"

// plainJob tells the plain client what to post.
type plainJob struct {
	KeyFile string `json:"key_file"`
	Alg     string `json:"alg"`
	Port    int    `json:"port"`
	Epoch   int    `json:"epoch"`
	Apps    int    `json:"apps"`
	Samples int    `json:"samples"`
	// InFlight posts of each app at once, AppsAtOnce apps at once, Idle connections kept per app.
	InFlight   int `json:"in_flight"`
	AppsAtOnce int `json:"apps_at_once"`
	Idle       int `json:"idle"`
}

// plainAnswer is what the plain client says when it is through.
type plainAnswer struct {
	Failed int64 `json:"failed"`
}

// plainBody has the notification's properties.
type plainBody struct {
	ChangeType        int
	ContextIdentifier string
	VersionName       string
	FileVersion       string
	Token             string
}

// plainClient posts what the service would post, without queue, order, retries or records: the
// bound that a delivery engine on this machine is compared with.
type plainClient struct {
	plainJob
	key    *signing.Key
	secret []signing.WebhookKey
	client *http.Client
	failed atomic.Int64
}

// runPlainClient is the plain client's process: a job on stdin, an answer on stdout.
func runPlainClient(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	c := &plainClient{}
	if err := json.NewDecoder(stdin).Decode(&c.plainJob); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	set, err := signing.LoadKeys(c.KeyFile)
	if err != nil {
		return err
	}
	if c.key, err = set.Signer(c.Alg, time.Now()); err != nil {
		return err
	}
	text, err := signing.NewWebhookSecret(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		return err
	}
	hook, err := signing.ParseWebhookSecret(secret.New(text.Reveal()))
	if err != nil {
		return err
	}
	c.secret = []signing.WebhookKey{hook}
	c.client = &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: c.Idle, DisableCompression: true,
	}}
	c.run(ctx)
	return json.NewEncoder(stdout).Encode(plainAnswer{Failed: c.failed.Load()})
}

func (c *plainClient) run(ctx context.Context) {
	slots := make(chan struct{}, c.AppsAtOnce)
	var apps sync.WaitGroup
	for app := range c.Apps {
		slots <- struct{}{}
		apps.Go(func() {
			c.app(ctx, app)
			<-slots
		})
	}
	apps.Wait()
}

// app posts all samples of one app.
func (c *plainClient) app(ctx context.Context, app int) {
	url := appURL(app, c.Port)
	var next atomic.Int64
	var posts sync.WaitGroup
	for range c.InFlight {
		posts.Go(func() {
			for n := int(next.Add(1)) - 1; n < c.Samples && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				if err := c.post(ctx, url, appName(app), n); err != nil {
					c.failed.Add(1)
				}
			}
		})
	}
	posts.Wait()
}

func (c *plainClient) post(ctx context.Context, url, app string, sample int) error {
	now := time.Now()
	token, err := signing.SignToken(c.key, signing.Claims{Tenant: tenantName(sample), ClientID: app, Issuer: issuer}, now)
	if err != nil {
		return err
	}
	body, err := json.Marshal(plainBody{
		ChangeType: 2, ContextIdentifier: tenantName(sample), VersionName: versionName(c.Epoch, sample), FileVersion: fileVersion, Token: token,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id := "chg_" + strconv.Itoa(sample)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Lamplighter/bench")
	req.Header["webhook-id"] = []string{id}
	req.Header["webhook-timestamp"] = []string{strconv.FormatInt(now.Unix(), 10)}
	req.Header["webhook-signature"] = []string{signing.SignWebhook(c.secret, id, now, body)}
	req.Header["x-state-sequence"] = []string{strconv.FormatInt(now.UnixMilli(), 10)}
	req.Header["x-state-superseded"] = []string{"0"}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if resp.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New(resp.Status))
	}
	return err
}

// posted is what the plain client reached.
type posted struct {
	rate float64
	// cpu is the client's CPU time per post.
	cpu time.Duration
}

// plain runs the plain client in a process of its own and measures it at the receivers.
func (b *bench) plain(ctx context.Context, r *receiver, job plainJob) (posted, error) {
	self, err := os.Executable()
	if err != nil {
		return posted{}, fmt.Errorf("start the plain client: %w", err)
	}
	text, err := json.Marshal(job)
	if err != nil {
		return posted{}, fmt.Errorf("start the plain client: %w", err)
	}
	t := r.expect(job.Epoch, job.Samples, 0, job.Apps, false)
	cmd := exec.CommandContext(ctx, self, clientMode) //nolint:gosec // this program itself
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return posted{}, fmt.Errorf("plain client: %w", err)
	}
	var a plainAnswer
	if err := json.Unmarshal(out, &a); err != nil {
		return posted{}, fmt.Errorf("plain client's answer: %w", err)
	}
	if a.Failed > 0 {
		return posted{}, fmt.Errorf("%d of the plain client's %d posts failed", a.Failed, t.expected)
	}
	if err := t.wait(ctx, t.done, time.Second); err != nil {
		return posted{}, fmt.Errorf("plain client: %w", err)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return posted{rate: t.rate(), cpu: cpu / time.Duration(t.expected)}, nil
}
