package mailbox

import "context"

// RecallFailed makes a page of entries due that failed while the endpoint did not work. They keep their step of the retry
// schedule. more is true if others remain. The caller MUST be the owner.
func (s *Store) RecallFailed(ctx context.Context, life Life, token string) (more bool, err error) {
	v, err := s.runInLife(ctx, s.scripts.recall, life, token).Text()
	return v == "1", wrapError("recall what failed from", life.App, err)
}
