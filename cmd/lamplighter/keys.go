package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// clockSkew lets receivers with slow clocks accept a new certificate.
const clockSkew = 5 * time.Minute

type keysGenerateCmd struct {
	Out      string        `required:"" short:"o" placeholder:"FILE" help:"File to write; it must not exist yet. Readable only by its owner."`
	Alg      string        `enum:"RS256,ES256" default:"RS256" help:"Algorithm: RS256 or ES256."`
	Days     int           `default:"365" help:"How long the key signs, 1 to 3650 days."`
	StartsIn time.Duration `default:"0s" placeholder:"24h" help:"When it starts to sign. A key that replaces another needs time until receivers know it."`
	Subject  string        `default:"Lamplighter" help:"Common name in the certificate."`
}

// Run writes the key and says how to use it.
func (c *keysGenerateCmd) Run(a *commandEnv) error {
	if c.Days < 1 || c.Days > 3650 {
		return usageError{errors.New("--days must be 1 to 3650")}
	}
	if c.StartsIn < 0 {
		return usageError{errors.New("--starts-in must not lie in the past")}
	}
	from := time.Now().Add(c.StartsIn - clockSkew)
	text, err := signing.GenerateKey(c.Alg, c.Subject, from, from.Add(clockSkew).AddDate(0, 0, c.Days))
	if err != nil {
		return err
	}
	key, err := signing.ParseKey(c.Out, text)
	if err != nil {
		return err
	}
	if err := writeNewFile(c.Out, text); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s: %s key %s, signs from %s to %s.\nAdd the file to signing.keys and restart; keep older keys there until their tokens have expired.\n",
		c.Out, c.Alg, key.ID(), from.UTC().Format(time.DateOnly), key.NotAfter().UTC().Format(time.DateOnly))
	return nil
}

// writeNewFile writes a file that must not exist, and removes it on a failure.
func writeNewFile(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the caller's own argument names the file
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: a key is never overwritten, choose another name", name)
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(name)
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

type keysReencryptCmd struct{ apiFlags }

// Run may be repeated: what has the newest key is skipped.
func (c *keysReencryptCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.sendAndPrint(ctx, a, client.Request{Method: http.MethodPost, Path: "/v1/secrets/reencrypt"})
}

type keysEncryptionCmd struct{}

// Run prints only the key, so that it can be piped into a file.
func (keysEncryptionCmd) Run(a *commandEnv) error {
	key, err := secret.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, key.Reveal())
	return nil
}
