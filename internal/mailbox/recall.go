package mailbox

import "context"

// RecallFailed makes a page due of what failed while the endpoint was not well, and keeps its step; more says that there are others. The
// caller MUST be the owner.
func (s *Store) RecallFailed(ctx context.Context, life Life, token string) (more bool, err error) {
	v, err := s.runInLife(ctx, s.scripts.recall, life, token).Text()
	return v == "1", wrapError("recall what failed from", life.App, err)
}
