package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
)

// typeLines is the media type of a body with one JSON text per line.
const typeLines = "application/x-ndjson"

// LineAnswer answers one line of a body of lines.
type LineAnswer struct {
	Line     int    `json:"line"`
	Status   int    `json:"status"`
	ID       string `json:"id,omitempty"`
	Sequence int64  `json:"sequence,omitempty"`
	// Replayed is true when the line was accepted before, under the same idempotency key.
	Replayed bool         `json:"replayed,omitempty"`
	Detail   string       `json:"detail,omitempty"`
	Errors   []FieldError `json:"errors,omitempty"`
}

// SendLines sends a body of lines and passes the answer to each on, in order, while it still sends. The service
// answers as it reads, and stops reading when its answers are not read. The error of answered is returned unchanged.
// SendLines does not repeat the request; callers whose lines are repeatable do so.
func (c *Client) SendLines(ctx context.Context, r Request, lines iter.Seq[[]byte], answered func(LineAnswer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, to := io.Pipe()
	sent := make(chan struct{})
	defer func() { // the sender must end before the caller continues
		_ = from.Close()
		<-sent
	}()
	go func() {
		defer close(sent)
		to.CloseWithError(writeLines(to, lines))
	}()
	r.Type = typeLines
	req, err := c.newRequest(ctx, r, from)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return newNoAnswer(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return newNoAnswer(ctx, err)
		}
		return parseRefusal(resp, text)
	}
	answers := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var a LineAnswer
		switch err := answers.Decode(&a); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return newNoAnswer(ctx, fmt.Errorf("the answers broke off: %w", err))
		case a.Line == 0:
			return ErrUnexpectedAnswer
		}
		if err := answered(a); err != nil {
			return err
		}
	}
}

func writeLines(w io.Writer, lines iter.Seq[[]byte]) error {
	buf := bufio.NewWriterSize(w, 32<<10)
	for line := range lines {
		if _, err := buf.Write(line); err != nil {
			return err
		}
		if err := buf.WriteByte('\n'); err != nil {
			return err
		}
	}
	return buf.Flush()
}
