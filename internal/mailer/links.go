package mailer

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Purposes of signed links; each has its own key.
const (
	purposeUnsubscribe        = "mail unsubscribe"
	purposeConfirm            = "mail confirm"
	purposeBlockConfirmations = "mail never ask"
	// linkAppsMax bounds the client ids in one link, in characters: a header line has at most 998.
	linkAppsMax = 560
)

// ErrBadLink reports a link that this service did not make.
var ErrBadLink = errors.New("the link was not made by this service")

// ErrOldLink reports a link of this service that is no longer valid.
var ErrOldLink = errors.New("the link is too old")

// SignatureMaker makes and checks signed texts; *secret.Keyring is one.
type SignatureMaker interface {
	Sign(purpose string, message []byte) string
	Verify(purpose, text string) ([]byte, error)
}

// Links makes and reads the links in mails. A link names its recipient by key, never by address, and holds no secret
// except the signature.
type Links struct {
	base string
	sign SignatureMaker
}

// NewLinks makes links below the public URL, which has no slash at its end.
func NewLinks(publicURL string, s SignatureMaker) *Links { return &Links{base: publicURL, sign: s} }

// LinkMaker returns the functions that a Composer needs.
func (k *Links) LinkMaker() LinkMaker {
	return LinkMaker{Unsubscribe: k.UnsubscribeLink, Confirm: k.ConfirmLink, BlockConfirmations: k.BlockConfirmationsLink}
}

// UnsubscribeLink makes the link that unsubscribes a recipient from mail about apps, "" when they do not fit in one.
// It does not expire, because a mail may be read years later.
func (k *Links) UnsubscribeLink(to string, apps []partner.ClientID) string {
	parts := []string{"1", incident.RecipientKey(to)}
	size := 0
	for _, a := range apps {
		size += len(a) + 1
		parts = append(parts, string(a))
	}
	if size > linkAppsMax || size == 0 {
		return ""
	}
	return k.base + "/mail/unsubscribe/" + k.sign.Sign(purposeUnsubscribe, []byte(strings.Join(parts, "|")))
}

// ConfirmLink makes the link by which a recipient confirms that an app's mail is wanted.
func (k *Links) ConfirmLink(l *incident.Mail) string {
	parts := []string{"1", incident.RecipientKey(l.To), string(l.ClientID), strconv.FormatInt(l.At.UnixMilli(), 36)}
	return k.base + "/mail/confirm/" + k.sign.Sign(purposeConfirm, []byte(strings.Join(parts, "|")))
}

// BlockConfirmationsLink makes the link that ends all confirmations to a recipient. It does not expire.
func (k *Links) BlockConfirmationsLink(to string) string {
	return k.base + "/mail/never-ask/" + k.sign.Sign(purposeBlockConfirmations, []byte("1|"+incident.ConfirmationQueue(to)))
}

// Recipient is the recipient that a link is about, and the apps.
type Recipient struct {
	// Key is the address's incident.RecipientKey.
	Key  string
	Apps []partner.ClientID
	// Asked is when the confirmation with the link was decided.
	Asked time.Time
}

// ReadUnsubscribe reads the token of an unsubscribe link. Errors: ErrBadLink.
func (k *Links) ReadUnsubscribe(token string) (Recipient, error) {
	r, rest, err := k.readToken(purposeUnsubscribe, token)
	if err != nil || len(rest) == 0 {
		return Recipient{}, ErrBadLink
	}
	for _, s := range rest {
		app, err := partner.ParseClientID(s)
		if err != nil || slices.Contains(r.Apps, app) {
			return Recipient{}, ErrBadLink
		}
		r.Apps = append(r.Apps, app)
	}
	return r, nil
}

// ReadBlockConfirmations reads the token of a link that ends confirmations, and returns their mail queue. Errors:
// ErrBadLink.
func (k *Links) ReadBlockConfirmations(token string) (tray string, err error) {
	r, rest, err := k.readToken(purposeBlockConfirmations, token)
	if err != nil || len(rest) != 0 || !incident.IsConfirmationQueue(r.Key) {
		return "", ErrBadLink
	}
	return r.Key, nil
}

// ReadConfirm reads the token of a confirmation link at a time. Errors: ErrBadLink, ErrOldLink.
func (k *Links) ReadConfirm(token string, now time.Time) (Recipient, error) {
	r, rest, err := k.readToken(purposeConfirm, token)
	if err != nil || len(rest) != 2 {
		return Recipient{}, ErrBadLink
	}
	app, err := partner.ParseClientID(rest[0])
	ms, msErr := strconv.ParseInt(rest[1], 36, 64)
	if err != nil || msErr != nil {
		return Recipient{}, ErrBadLink
	}
	r.Apps, r.Asked = []partner.ClientID{app}, time.UnixMilli(ms).UTC()
	if now.Sub(r.Asked) > ConfirmWithin {
		return Recipient{}, ErrOldLink
	}
	return r, nil
}

func (k *Links) readToken(purpose, token string) (Recipient, []string, error) {
	b, err := k.sign.Verify(purpose, token)
	if err != nil {
		return Recipient{}, nil, ErrBadLink
	}
	parts := strings.Split(string(b), "|")
	if len(parts) < 2 || parts[0] != "1" {
		return Recipient{}, nil, ErrBadLink
	}
	return Recipient{Key: parts[1]}, parts[2:], nil
}
