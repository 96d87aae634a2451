package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

var trayOwner = incident.RecipientKey("kim@example.com")

func eachTrays(t *testing.T, f func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		rdb.AddHook(&counter{t: t})
		f(t, registry.NewMailQueueStore(rdb, keys.New("test")), rdb)
	})
}

func trayLetter(n int) *incident.Mail {
	at := t0.Add(time.Duration(n) * time.Minute)
	return &incident.Mail{Recipient: incident.Recipient{To: "kim@example.com", ClientID: "app1"}, Kind: incident.KindOpened, Incident: incident.NewID("app1", partner.StateChange, at), N: n, At: at}
}

func putLetter(t *testing.T, s *registry.MailQueueStore, n int, hold time.Duration) registry.PutResult {
	t.Helper()
	l := trayLetter(n)
	out, due, err := s.EnqueueMail(t.Context(), trayOwner, l.ID(), l, hold)
	noErr(t, "put", err)
	if due.IsZero() {
		t.Error("no due time")
	}
	return out
}

func claimTray(t *testing.T, s *registry.MailQueueStore) claimedTray {
	t.Helper()
	c, q, err := s.ClaimMailQueue(t.Context(), trayOwner, time.Minute)
	noErr(t, "claim", err)
	return claimedTray{c, q}
}

type claimedTray struct {
	registry.MailClaim

	Queue registry.MailQueue
}

func settleTray(t *testing.T, s *registry.MailQueueStore, token string, set registry.MailQueueSettlement, want registry.SettlementResult, left int) {
	t.Helper()
	out, n, err := s.SettleMailQueue(t.Context(), trayOwner, token, set)
	noErr(t, "settle", err)
	if out != want || n != left {
		t.Errorf("settled %v with %d left, want %v with %d", out, n, want, left)
	}
}

func trays(t *testing.T, s *registry.MailQueueStore) []registry.MailQueueInfo {
	t.Helper()
	list, _, more, err := s.ListMailQueues(t.Context(), registry.MailQueuePlace{})
	noErr(t, "list trays", err)
	if more {
		t.Error("there are more than a page of trays")
	}
	return list
}

func TestTrayTakesALetterOnce(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, _ redis.UniversalClient) {
		if got := claimTray(t, s); got.Result != registry.ClaimMissing {
			t.Errorf("claimed nothing: %+v", got)
		}
		if a, b := putLetter(t, s, 2, 0), putLetter(t, s, 2, 0); a != registry.PutDone || b != registry.PutKnown {
			t.Errorf("put %v, again %v", a, b)
		}
		putLetter(t, s, 1, time.Hour) // another's wait prolongs nothing
		c := claimTray(t, s)
		if c.Result != registry.ClaimTaken || len(c.Queue.Mails) != 2 || c.Queue.Mails[0].Mail.N != 1 || c.Queue.Mails[0].Arrived.IsZero() {
			t.Fatalf("claim %+v", c)
		}
		if again := claimTray(t, s); again.Result != registry.ClaimHeld || time.Until(again.Until) <= 0 {
			t.Errorf("claimed twice: %+v", again)
		}
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[0].ID}, Sent: 1, WindowAt: t0, Batch: "p"}, registry.SettleDone, 1)
		if got := putLetter(t, s, 1, 0); got != registry.PutKnown {
			t.Errorf("a letter that left came back: %v", got)
		}
		c = claimTray(t, s)
		if tr := c.Queue; len(tr.Mails) != 1 || tr.Sent != 1 || !tr.WindowAt.Equal(t0) || tr.Batch != "p" {
			t.Errorf("tray %+v", tr)
		}
	})
}

func TestTrayWaitsForMore(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, _ redis.UniversalClient) {
		putLetter(t, s, 1, time.Hour)
		if c := claimTray(t, s); c.Result != registry.ClaimEarly || time.Until(c.Until) < 50*time.Minute {
			t.Errorf("claimed while it waits for more: %+v", c)
		}
	})
}

func TestTraySettlements(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, _ redis.UniversalClient) {
		putLetter(t, s, 1, 0)
		putLetter(t, s, 2, 0)
		c := claimTray(t, s)
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Keep: true, Batch: "frozen"}, registry.SettleDone, 2)
		if got := claimTray(t, s); got.Result != registry.ClaimHeld {
			t.Errorf("freezing gave the claim up: %+v", got)
		}
		settleTray(t, s, "stranger", registry.MailQueueSettlement{Batch: "theirs"}, registry.SettleLost, 2)
		settleTray(t, s, "stranger", registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[0].ID}}, registry.SettleLost, 1)
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Batch: "frozen", Attempts: 1, Delay: time.Hour}, registry.SettleDone, 1)
		if got := claimTray(t, s); got.Result != registry.ClaimEarly {
			t.Errorf("claimed before its time: %+v", got)
		}
		list := trays(t, s)
		if len(list) != 1 || list[0].Attempts != 1 || list[0].Mails != 1 || list[0].Recipient != trayOwner || list[0].Overdue(time.Now().Add(time.Minute)) < time.Minute {
			t.Errorf("trays %+v", list)
		}
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[1].ID}}, registry.SettleDone, 0)
		if got := claimTray(t, s); got.Result != registry.ClaimMissing {
			t.Errorf("claimed an empty tray: %+v", got)
		}
		if out, _, err := s.SettleMailQueue(t.Context(), "nobody", "x", registry.MailQueueSettlement{}); out != registry.SettleMissing || err != nil {
			t.Errorf("settled no tray: %v %v", out, err)
		}
	})
}

func TestTraysAreListedUntilEmpty(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		index := keys.New("test").Config(keys.ConfigMailQueues)
		putLetter(t, s, 1, 0)
		rdb.ZAdd(t.Context(), index, redis.Z{Score: 1.5, Member: "gone"})
		if list := trays(t, s); len(list) != 1 {
			t.Errorf("trays %+v", list)
		}
		if got := rdb.ZRange(t.Context(), index, 0, -1).Val(); !slices.Equal(got, []string{trayOwner}) {
			t.Errorf("listed %v: an empty one stays off the list, one with letters on it", got)
		}
		c := claimTray(t, s)
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[0].ID}}, registry.SettleDone, 0)
		trays(t, s)
		if n := rdb.ZCard(t.Context(), index).Val(); n != 1 {
			t.Error("struck off although somebody may be laying a letter in just now")
		}
	})
}

func TestTrayIsBounded(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		rdb.HSet(t.Context(), keys.New("test").Recipient(trayOwner, keys.RecipientMailQueue), "v", "1", "count", "2000", "due", "1")
		if got := putLetter(t, s, 1, 0); got != registry.PutFull {
			t.Errorf("a full tray took one: %v", got)
		}
	})
}

// Questions are few, wherever a version before laid them, and take no room from news.
func TestQuestionsInATrayAreFew(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		question := trayLetter(1)
		question.Kind = incident.KindConfirm
		tray := incident.MailQueueOf(question)
		if tray == trayOwner {
			t.Fatal("questions wait among the news")
		}
		put := func(tray, id string, l *incident.Mail) registry.PutResult {
			t.Helper()
			out, _, err := s.EnqueueMail(t.Context(), tray, id, l, 0)
			noErr(t, "put", err)
			return out
		}
		for i := range 15 {
			if out := put(tray, fmt.Sprintf("q%d", i), question); out != registry.PutDone {
				t.Fatalf("question %d: %v", i, out)
			}
		}
		if a, b := put(tray, "q15", question), put(tray, "q0", question); a != registry.PutFull || b != registry.PutKnown {
			t.Errorf("one more: %v, one that is there: %v", a, b)
		}
		rdb.HSet(t.Context(), trayKey(), "v", "1", "count", "15", "due", "1")
		if a, b := put(trayOwner, "q", question), putLetter(t, s, 1, 0); a != registry.PutFull || b != registry.PutDone {
			t.Errorf("a question among the news: %v, news: %v", a, b)
		}
	})
}

func TestQuestionsAreRefusedByTheirRecipient(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, _ redis.UniversalClient) {
		tray, other := incident.ConfirmationQueue("kim@example.com"), incident.ConfirmationQueue("lee@example.com")
		for _, on := range []bool{true, true, false, false} {
			noErr(t, "refuse", s.SetConfirmationsRefused(t.Context(), tray, on))
			if a, b := must[bool](t)(s.ConfirmationsRefused(t.Context(), tray)), must[bool](t)(s.ConfirmationsRefused(t.Context(), other)); a != on || b {
				t.Errorf("refused by kim: %v, want %v; by lee: %v", a, on, b)
			}
		}
	})
}

func TestUnreadableTray(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		ctx, key := t.Context(), keys.New("test").Recipient(trayOwner, keys.RecipientMailQueue)
		rdb.HSet(ctx, key, "v", "2", "count", "1")
		_, _, putErr := s.EnqueueMail(ctx, trayOwner, "m", trayLetter(1), 0)
		_, _, claimErr := s.ClaimMailQueue(ctx, trayOwner, time.Minute)
		_, _, settleErr := s.SettleMailQueue(ctx, trayOwner, "x", registry.MailQueueSettlement{})
		for what, err := range map[string]error{"put": putErr, "claim": claimErr, "settle": settleErr} {
			if !errors.Is(err, registry.ErrUnreadable) {
				t.Errorf("%s: %v, want ErrUnreadable", what, err)
			}
		}
		rdb.HSet(ctx, key, "v", "1", "letter:x", `1;{"v":9}`)
		if c := claimTray(t, s); len(c.Queue.Mails) != 1 || c.Queue.Mails[0].Unreadable == nil {
			t.Errorf("claim %+v", c)
		}
	})
}

func TestTrayForgetsWhatLeftLongAgo(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		key := keys.New("test").Recipient(trayOwner, keys.RecipientMailQueue)
		putLetter(t, s, 1, 0)
		rdb.HSet(t.Context(), key, "done:old", "1", "thread:old", "1;x@example.com")
		c := claimTray(t, s)
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[0].ID}}, registry.SettleDone, 0)
		if rdb.HExists(t.Context(), key, "done:old").Val() || rdb.HExists(t.Context(), key, "thread:old").Val() {
			t.Error("an old id stays for ever")
		}
		if ttl := rdb.PTTL(t.Context(), key).Val(); ttl < 47*time.Hour || ttl > 48*time.Hour {
			t.Errorf("an empty tray goes away in %v", ttl)
		}
		putLetter(t, s, 2, 0)
		if ttl := rdb.PTTL(t.Context(), key).Val(); ttl > 0 {
			t.Errorf("a tray with a letter goes away in %v", ttl)
		}
	})
}

func TestTrayRemembersThreads(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		putLetter(t, s, 1, 0)
		c := claimTray(t, s)
		if len(c.Queue.Threads) != 0 {
			t.Errorf("threads %v", c.Queue.Threads)
		}
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[0].ID}, Threads: []registry.DigestThread{
			{Incident: "inc_a", MessageID: "one;@example.com", Keep: 35 * 24 * time.Hour}, {Incident: "inc_b", MessageID: "two@example.com", Keep: time.Hour},
		}}, registry.SettleDone, 0)
		if ttl := rdb.PTTL(t.Context(), keys.New("test").Recipient(trayOwner, keys.RecipientMailQueue)).Val(); ttl < 34*24*time.Hour {
			t.Errorf("an empty tray forgets its threads in %v", ttl)
		}
		putLetter(t, s, 2, 0)
		c = claimTray(t, s)
		settleTray(t, s, "stranger", registry.MailQueueSettlement{Threads: []registry.DigestThread{{Incident: "inc_c", MessageID: "three@example.com", Keep: time.Hour}}}, registry.SettleLost, 1)
		settleTray(t, s, c.Token, registry.MailQueueSettlement{}, registry.SettleDone, 1)
		want := map[string]string{"inc_a": "one;@example.com", "inc_b": "two@example.com", "inc_c": "three@example.com"}
		if got := claimTray(t, s).Queue.Threads; !maps.Equal(got, want) {
			t.Errorf("threads %v", got)
		}
	})
}

func TestManyTrays(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, _ redis.UniversalClient) {
		for i := range 5 {
			l := trayLetter(1)
			l.To = fmt.Sprintf("kim%d@example.com", i)
			_, _, err := s.EnqueueMail(t.Context(), incident.RecipientKey(l.To), l.ID(), l, 0)
			noErr(t, "put", err)
		}
		if list := trays(t, s); len(list) != 5 {
			t.Errorf("%d trays", len(list))
		}
	})
}

// A tray is read in pages and left in pieces, however much it holds and remembers, and its oldest letter is known all the time.
func TestAFullTrayThatRemembersMuch(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		const letters, remembered = 900, 3000
		fillTray(t, rdb, letters, remembered)
		c := claimTray(t, s)
		if len(c.Queue.Mails) != letters {
			t.Fatalf("%d letters, want %d", len(c.Queue.Mails), letters)
		}
		leave := make([]string, 0, letters)
		for _, l := range c.Queue.Mails[:letters-1] {
			leave = append(leave, l.ID)
		}
		stays := c.Queue.Mails[letters-1]
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: leave, Oldest: stays.Arrived, Attempts: 1}, registry.SettleDone, 1)
		list := trays(t, s)
		if len(list) != 1 || list[0].Mails != 1 || !list[0].Oldest.Equal(stays.Arrived) {
			t.Errorf("trays %+v, want one letter of %v", list, stays.Arrived)
		}
		for _, id := range leave {
			if !rdb.HExists(t.Context(), trayKey(), "done:"+id).Val() {
				t.Fatalf("letter %s may come back", id)
			}
		}
		// What was forgotten goes piece by piece, with calls that take something out.
		old := func() (n int) {
			for _, name := range rdb.HKeys(t.Context(), trayKey()).Val() {
				if strings.HasPrefix(name, "done:old") {
					n++
				}
			}
			return n
		}
		for n := 0; n < 30 && old() > 0; n++ {
			settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: leave[:200], Keep: true}, registry.SettleDone, 1)
		}
		if n := old(); n > 0 {
			t.Errorf("%d are remembered for ever", n)
		}
	})
}

func trayKey() string { return keys.New("test").Recipient(trayOwner, keys.RecipientMailQueue) }

// fillTray writes a tray with letters, of which the last came last, and with ids whose time is over.
func fillTray(t testing.TB, rdb redis.UniversalClient, letters, remembered int) {
	t.Helper()
	fields := []any{"v", "1", "count", letters, "due", "1", "till", "0"}
	for i := range letters {
		l := trayLetter(i)
		fields = append(fields, "letter:"+l.ID(), fmt.Sprintf("%d;%s", 1000+i, l.Encode()))
	}
	for i := range remembered {
		fields = append(fields, fmt.Sprintf("done:old%d", i), "1")
	}
	noErr(t, "fill a tray", rdb.HSet(t.Context(), trayKey(), fields...).Err())
	noErr(t, "list it", rdb.ZAdd(t.Context(), keys.New("test").Config(keys.ConfigMailQueues), redis.Z{Score: 1, Member: trayOwner}).Err())
}

// An older version wrote threads without saying for how long: an empty tray remembers them for as long as any may matter.
func TestTrayOfAnOlderVersionKeepsItsThreads(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		putLetter(t, s, 1, 0)
		rdb.HDel(t.Context(), trayKey(), "till")
		c := claimTray(t, s)
		settleTray(t, s, c.Token, registry.MailQueueSettlement{Leave: []string{c.Queue.Mails[0].ID}}, registry.SettleDone, 0)
		if ttl := rdb.PTTL(t.Context(), trayKey()).Val(); ttl < 35*24*time.Hour {
			t.Errorf("it goes away in %v", ttl)
		}
	})
}

// However many trays there are, and however many of them cannot be sent, all are looked at page by page.
func TestTraysArePaged(t *testing.T) {
	eachTrays(t, func(t *testing.T, s *registry.MailQueueStore, rdb redis.UniversalClient) {
		const n = 2300
		space := keys.New("test")
		_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := range n {
				who := fmt.Sprintf("recipient%d", i)
				p.ZAdd(t.Context(), space.Config(keys.ConfigMailQueues), redis.Z{Score: float64(1 + i/3), Member: who})
				if i%10 > 0 {
					p.HSet(t.Context(), space.Recipient(who, keys.RecipientMailQueue), "v", "1", "count", "1", "due", "1")
				}
			}
			return nil
		})
		noErr(t, "fill", err)
		seen := map[string]bool{}
		pages := 0
		for place, more := (registry.MailQueuePlace{}), true; more; pages++ {
			var list []registry.MailQueueInfo
			list, place, more, err = s.ListMailQueues(t.Context(), place)
			noErr(t, "list", err)
			for _, tr := range list {
				seen[tr.Recipient] = true
			}
		}
		if len(seen) != n*9/10 || pages != 3 {
			t.Errorf("%d trays on %d pages", len(seen), pages)
		}
		if left := rdb.ZCard(t.Context(), space.Config(keys.ConfigMailQueues)).Val(); left != n*9/10 {
			t.Errorf("%d are listed, empty ones too", left)
		}
	})
}
