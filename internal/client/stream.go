package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// StreamAnswer copies the body of an answer of any length to w. After an error, w may have a part of it.
func (c *Client) StreamAnswer(ctx context.Context, r Request, w io.Writer) error {
	req, err := c.newRequest(ctx, r, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return newNoAnswer(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return newNoAnswer(ctx, err)
		}
		return parseRefusal(resp, text)
	}
	if n, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("it broke off after %d bytes: %w", n, err)
	}
	return nil
}
