package mailer

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	// singlesMax is how many incidents a recipient is told of one by one. More at once have one cause
	// as a rule, and become one digest.
	singlesMax = 3
	// digestMax bounds the letters of one digest; the rest go in the next.
	digestMax = 500
	// day is what the daily cap counts by: it begins with the first mail.
	day = 24 * time.Hour
	// confirmationsPerDay is how many questions one recipient gets in any 24 h, of all apps.
	confirmationsPerDay = 3
)

// Policy bounds what one recipient gets.
type Policy struct {
	// GatherFor is how long a letter waits for others to the same recipient.
	GatherFor time.Duration
	// DailyCap is how many mails a recipient gets in 24 h; what is beyond becomes one digest after
	// that time. 0 is no cap.
	DailyCap int
}

// batch is what is sent next out of a tray.
type batch struct {
	// expired are letters that were tried for too long.
	expired []registry.QueuedMail
	// mails go now: one by itself, or several as a digest.
	mails  []registry.QueuedMail
	digest bool
	// at is when a digest was put together, a part of its Message-ID.
	at time.Time
	// wait is set when nothing goes yet.
	wait time.Duration
}

// pinnedDigest is a digest that is being sent: a process that takes over sends the same again.
type pinnedDigest struct {
	IDs []string  `json:"ids"`
	At  time.Time `json:"at"`
}

func (p *batch) encodePin() string {
	f := pinnedDigest{At: p.at}
	for i := range p.mails {
		f.IDs = append(f.IDs, p.mails[i].ID)
	}
	b, err := json.Marshal(f)
	if err != nil { // strings and a time always marshal
		panic("mailer: marshal parcel: " + err.Error())
	}
	return string(b)
}

// nextConfirmation decides what is sent out of a tray of questions. It is pure. The tray's window begins with the last
// question, so that no 24 h ever have more than confirmationsPerDay.
func nextConfirmation(t *registry.MailQueue, now time.Time) batch {
	var out batch
	for _, l := range t.Mails {
		if l.Unreadable == nil && now.Sub(l.Mail.Mail.At) >= giveUpAfter {
			out.expired = append(out.expired, l)
		}
	}
	if over := t.WindowAt.Add(day); len(out.expired) == 0 && t.Sent >= confirmationsPerDay && now.Before(over) {
		out.wait = over.Sub(now)
	}
	if len(out.expired) == 0 && out.wait == 0 {
		out.mails = t.Mails[:min(len(t.Mails), 1)]
	}
	return out
}

// nextBatch decides what is sent out of a recipient's own tray. It is pure. t.Letters are in the order of their decision.
func (p Policy) nextBatch(t *registry.MailQueue, now time.Time) batch {
	if out, ok := unpinDigest(t); ok {
		return out
	}
	var out batch
	letters := t.Mails
	if t.Attempts > 0 {
		for _, l := range letters {
			if l.Unreadable == nil && now.Sub(l.Mail.Mail.At) >= giveUpAfter {
				out.expired = append(out.expired, l)
			}
		}
		if len(out.expired) > 0 {
			return out
		}
	}
	capped := p.DailyCap > 0 && t.Sent >= p.DailyCap
	if over := t.WindowAt.Add(day); capped && now.Before(over) {
		out.wait = over.Sub(now)
		return out
	}
	if i := slices.IndexFunc(letters, func(l registry.QueuedMail) bool { return l.Unreadable != nil }); i >= 0 {
		out.mails = letters[i : i+1]
		return out
	}
	incidents := map[string]bool{}
	for i := range letters {
		incidents[letters[i].Mail.Mail.Incident] = true
	}
	if len(incidents) > singlesMax || capped && len(letters) > 1 {
		out.digest, out.at = true, now.UTC().Truncate(time.Millisecond)
		out.mails = letters[:min(len(letters), digestMax)]
		return out
	}
	out.mails = letters[:min(len(letters), 1)]
	return out
}

// unpinDigest finds the digest that somebody began to send, as far as its letters are still there.
func unpinDigest(t *registry.MailQueue) (batch, bool) {
	var f pinnedDigest
	if t.Batch == "" || json.Unmarshal([]byte(t.Batch), &f) != nil {
		return batch{}, false
	}
	out := batch{digest: true, at: f.At}
	for _, l := range t.Mails {
		if slices.Contains(f.IDs, l.ID) {
			out.mails = append(out.mails, l)
		}
	}
	return out, len(out.mails) > 0
}
