package registry

import (
	"context"
	"fmt"
	"strconv"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

var reseal = newScript("reseal")

// Reencrypt seals every webhook secret with the current key that an older key sealed. An older key can be removed from the
// settings once the answers that it sealed under idempotency keys have expired; links in older mails and cursors become invalid
// with it. Reencrypt may be repeated and interrupted; secrets that it has sealed stay sealed with the current key. It is audited
// if it sealed any. Errors: ErrUnreadable if no key opens a value, after all others were done.
func (s *Store) Reencrypt(ctx context.Context, actor Actor) (examined, resealed int, err error) {
	key := s.keys.Config(keys.ConfigSecrets)
	var unreadable error
	for cursor := uint64(0); ; {
		pairs, next, err := s.rdb.HScan(ctx, key, cursor, "", maxPage).Result()
		if err != nil {
			return examined, resealed, wrapError(err, "list secrets")
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			examined++
			done, err := s.resealSecret(ctx, key, partner.ClientID(pairs[i]), pairs[i+1])
			if done {
				resealed++
			}
			if err != nil {
				unreadable = err
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if resealed > 0 {
		err = s.AppendAudit(ctx, AuditEntry{
			Actor: actor.Name, Role: actor.Role, RequestID: actor.RequestID, Action: "secrets.reencrypt", Subject: "webhook_secrets",
			After: `{"resealed":` + strconv.Itoa(resealed) + `}`,
		})
	}
	if unreadable != nil {
		err = unreadable
	}
	return examined, resealed, err
}

func (s *Store) resealSecret(ctx context.Context, key string, id partner.ClientID, sealed string) (bool, error) {
	if !s.opts.Keyring.Stale(sealed) {
		return false, nil
	}
	w, err := s.openSecrets(id, sealed)
	if err != nil {
		return false, fmt.Errorf("seal again: %w", err)
	}
	fresh, err := s.sealSecrets(id, w)
	if err != nil {
		return false, err
	}
	n, err := reseal.run(ctx, s.durable, []string{key}, string(id), sealed, fresh).Int()
	return n == 1, wrapError(err, "seal the secrets of app %s again", id)
}
