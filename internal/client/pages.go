package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
)

// pageSize is the longest page of lists.
const pageSize = 500

// maxPages ends a list whose cursor never ends.
const maxPages = 1_000_000

// ForEachItem calls f with the items of a list, page by page, until limit items were seen (0: all) or f
// fails.
func (c *Client) ForEachItem(ctx context.Context, path string, query url.Values, limit int, f func(item json.RawMessage) error) error {
	query = cloneQuery(query)
	for seen, pages := 0, 0; pages < maxPages; pages++ {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-seen)
		}
		query.Set("limit", strconv.Itoa(size))
		answer, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: query})
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next_cursor"`
		}
		if err := json.Unmarshal(answer.Body, &page); err != nil || page.Items == nil {
			return fmt.Errorf("list %s: %w", path, ErrUnexpectedAnswer)
		}
		for _, item := range page.Items {
			if err := f(item); err != nil {
				return err
			}
		}
		seen += len(page.Items)
		if page.Next == "" || (limit > 0 && seen >= limit) {
			return nil
		}
		query.Set("cursor", page.Next)
	}
	return fmt.Errorf("list %s: it does not end", path)
}

func cloneQuery(v url.Values) url.Values {
	out := make(url.Values, len(v)+2)
	maps.Copy(out, v)
	return out
}
