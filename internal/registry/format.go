package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// DataFormat is the highest format of any value that this version writes. Raise it together with that of the value, and describe
// it in docs/upgrade.md: after its first start, versions that read less are refused.
//
// 2: the change in a pending notification (delivery.EncodeChange).
const DataFormat = 2

// ErrNewerFormat reports that a newer version has written the data.
var ErrNewerFormat = errors.New("the data was written by a newer version")

// claimFormat stores the format of the data.
var claimFormat = newScript("format")

// ClaimFormat checks that this version reads all that the data may hold, and raises the stored format to its own. Nothing is
// rewritten: older values are read as they are, and get the newer form with their next write. Nothing else under the prefix may
// be written before. Errors: ErrNewerFormat.
func (s *Store) ClaimFormat(ctx context.Context) error {
	text, err := claimFormat.run(ctx, s.rdb, []string{s.keys.Config(keys.ConfigFormat)}, DataFormat).Text()
	if err != nil {
		return wrapError(err, "read the format of the data")
	}
	format, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("the format of the data with prefix %q is not a number: %w: run the newer version, or set another redis.prefix",
			s.keys.Prefix(), ErrNewerFormat)
	}
	if format > DataFormat {
		return fmt.Errorf("the data with prefix %q has format %d, this version reads formats up to %d: %w: run that version again, or restore the copy of Redis from before the upgrade",
			s.keys.Prefix(), format, DataFormat, ErrNewerFormat)
	}
	return nil
}
