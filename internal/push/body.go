package push

import (
	"strconv"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/plainjson"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// appendBody writes the notification with the members in the names and order of the platform's page on tenant status
// webhooks. Receivers bind members by name, so none may be added. PublicEndpoint is left out, not empty, unless the
// tenant moved.
func appendBody(b []byte, m delivery.Message, token string) []byte {
	c := &m.Change
	b = strconv.AppendInt(append(b, `{"ChangeType":`...), int64(c.Type), 10)
	b = plainjson.AppendString(append(b, `,"ContextIdentifier":`...), string(c.Tenant))
	b = plainjson.AppendString(append(b, `,"VersionName":`...), c.VersionName)
	b = plainjson.AppendString(append(b, `,"FileVersion":`...), c.FileVersion)
	b = plainjson.AppendString(append(b, `,"Token":`...), token)
	if c.Type == tenant.Move && c.PublicEndpoint != "" {
		b = plainjson.AppendString(append(b, `,"PublicEndpoint":`...), c.PublicEndpoint)
	}
	return append(b, '}')
}
