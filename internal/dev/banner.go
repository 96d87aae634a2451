package dev

import (
	"fmt"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
)

// place is what dev ended up with, for whoever reads the banner.
type place struct {
	version              string
	api, ops, hook, desk string
	token                string
	incident             config.Incident
	ignored              []string
}

// banner is what dev says once it runs. Every indented line that starts with curl is a command
// that works as it stands in a shell; the commands hold the token, which is worth nothing
// elsewhere or later.
func (p *place) banner(c *console) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("%s", c.paint(eventPlain, "Lamplighter "+p.version+", a demo on this machine"))
	line("%s", c.paint(eventBad, "IT FORGETS EVERYTHING when it stops: apps, changes, keys, mails. For real work there is: lamplighter serve"))
	if len(p.ignored) > 0 {
		line("Ignored, since the demo brings its own: %s", strings.Join(p.ignored, ", "))
	}
	line("")
	line("  API            %s", p.api)
	line("  Metrics        %s/metrics", p.ops)
	line("  Receiver       %s", p.hook)
	line("  Desk           %s  (mails, and the receiver's switch)", p.desk)
	line("  Admin token    %s", p.token)
	for i, a := range demoApps() {
		name := ""
		if i == 0 {
			name = "Apps"
		}
		line("  %-14s %s, %s tokens, approved by %s", name, a.id, a.algorithm, strings.Join(a.tenants, ", "))
	}
	line("")
	line("%s", c.paint(eventPlain, "Three commands to try, in another terminal"))
	p.tries(line)
	line("")
	line("%s", c.paint(eventPlain, "Look around at any time"))
	line("     curl -sS %s/api/state/%s", p.api, firstTenant)
	line("     curl -sS %s %s/v1/apps/%s/mailbox", p.bearer(), p.api, demoApps()[0].id)
	line("     curl -sS %s/mails", p.desk)
	line("")
	line("%s (Ctrl-C stops it). Apps were told where each tenant stands when it approved them:", c.paint(eventPlain, "What happens, as it happens"))
	return b.String()
}

func (p *place) tries(line func(string, ...any)) {
	line("")
	line("  1. Report that %s was suspended: both apps are told, and prove who told them.", firstTenant)
	line("     %s", p.report("suspend"))
	line("")
	line("  2. Stop the receiver and report that %s is back: about %s later each app's contact gets a mail.", firstTenant, seconds(p.incident.OpenAfter))
	line("     curl -sS -X POST %s/stop && %s", p.desk, p.report("resume"))
	line("")
	line("  3. Start the receiver: it is told the truth within seconds, and about %s later a mail says that all is well.", seconds(p.incident.RecoverAfter))
	line("     curl -sS -X POST %s/start", p.desk)
}

// report is the command that reports a change of the first tenant.
func (p *place) report(change string) string {
	return fmt.Sprintf(`curl -sS %s -H 'Content-Type: application/json' -d '{"tenant":"%s","change_type":"%s"}' %s/v1/state-changes`,
		p.bearer(), firstTenant, change, p.api)
}

func (p *place) bearer() string { return "-H 'Authorization: Bearer " + p.token + "'" }

// help is the desk's front page.
func (p *place) help() string {
	return fmt.Sprintf(`The desk of lamplighter dev

GET  /mails          the last %d mails that the catcher caught
POST /stop           the receiver's port refuses connections
POST /start          it takes pushes again
POST /secrets/{app}  tells the receiver an app's webhook secret, so that it checks signatures

An app of your own, received here (LAMPLIGHTER_TOKEN is the admin token that was printed):

curl -sS -X PUT -H "Authorization: Bearer $LAMPLIGHTER_TOKEN" -H 'Content-Type: application/json' -d '{"name":"My app","technical_contact":{"name":"Me","email":"me@example.com"},"endpoints":{"state_change":{"url":"%s","enabled":true}}}' %s/v1/apps/my-app | curl -sS --data-binary @- %s/secrets/my-app
curl -sS -X PUT -H "Authorization: Bearer $LAMPLIGHTER_TOKEN" %s/v1/apps/my-app/approvals/%s
`, maxMails, strings.Replace(p.hook, "<client id>", "my-app", 1), p.api, p.desk, p.api, firstTenant)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
