package mailer

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	// singlesMax is how many pending incidents are sent as single mails. More than that usually have one
	// cause, and become one digest.
	singlesMax = 3
	// digestMax bounds the mails in one digest; the rest go into the next.
	digestMax = 500
	// day is the window of the daily cap. It begins with the first mail.
	day = 24 * time.Hour
	// confirmationsPerDay is how many confirmations one recipient gets in any 24 h, from all apps.
	confirmationsPerDay = 3
)

// Policy bounds the mails to one recipient.
type Policy struct {
	// GatherFor is how long a mail waits for others to the same recipient.
	GatherFor time.Duration
	// DailyCap is how many mails a recipient gets in 24 h. The mails beyond that become one digest after
	// that time. 0 is no cap.
	DailyCap int
}

// batch is what is sent next from a mail queue. At most one of expired, mails and wait is set.
type batch struct {
	// expired are mails that are given up after giveUpAfter.
	expired []registry.QueuedMail
	// mails are sent now: one by itself, or several as a digest.
	mails  []registry.QueuedMail
	digest bool
	// at is the time of a digest, a part of its Message-ID.
	at time.Time
	// wait is how long nothing may be sent.
	wait time.Duration
}

// pinnedDigest is a digest that is being sent. It is stored before the attempt, so that another process which
// takes over sends the same message again.
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
		panic("mailer: marshal batch: " + err.Error())
	}
	return string(b)
}

// nextConfirmation decides what is sent next from a queue of confirmations. It is pure. The queue's window begins
// with the last confirmation that was sent, so that no 24 h have more than confirmationsPerDay.
func nextConfirmation(t *registry.MailQueue, now time.Time) batch {
	var out batch
	for _, l := range t.Mails {
		if l.Unreadable == nil && now.Sub(l.Mail.At) >= giveUpAfter {
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

// nextBatch decides what is sent next from a recipient's own mail queue. It is pure. t.Mails are in the order of their
// decision.
func (p Policy) nextBatch(t *registry.MailQueue, now time.Time) batch {
	if out, ok := unpinDigest(t); ok {
		return out
	}
	var out batch
	letters := t.Mails
	if t.Attempts > 0 {
		for _, l := range letters {
			if l.Unreadable == nil && now.Sub(l.Mail.At) >= giveUpAfter {
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
		incidents[letters[i].Mail.Incident] = true
	}
	if len(incidents) > singlesMax || capped && len(letters) > 1 {
		out.digest, out.at = true, now.UTC().Truncate(time.Millisecond)
		out.mails = letters[:min(len(letters), digestMax)]
		return out
	}
	out.mails = letters[:min(len(letters), 1)]
	return out
}

// unpinDigest returns the pinned digest, with those of its mails that are still in the queue; false when there is none.
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
