package dev

import (
	"fmt"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
)

// demoInfo is what the banner shows: addresses, token and settings of the demo.
type demoInfo struct {
	version                    string
	api, ops, hook, demoServer string
	token                      string
	incident                   config.Incident
	ignored                    []string
}

// bannerText is the banner of a started demo. Every indented line that starts with curl is a complete shell command.
// The commands contain the token, which is valid only for this run.
func (p *demoInfo) bannerText(c *eventLog) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("%s", c.colourText(eventPlain, "Lamplighter "+p.version+", a demo on this machine"))
	line("%s", c.colourText(eventBad, "IT FORGETS EVERYTHING when it stops: apps, changes, keys, mails. For real use there is: lamplighter serve"))
	if len(p.ignored) > 0 {
		line("Ignored, since the demo brings its own: %s", strings.Join(p.ignored, ", "))
	}
	line("")
	line("  API            %s", p.api)
	line("  Metrics        %s/metrics", p.ops)
	line("  Receiver       %s", p.hook)
	line("  Demo server    %s  (mails, and start or stop of the receiver)", p.demoServer)
	line("  Admin token    %s", p.token)
	for i, a := range demoApps() {
		name := ""
		if i == 0 {
			name = "Apps"
		}
		line("  %-14s %s, %s tokens, approved by %s", name, a.id, a.algorithm, strings.Join(a.tenants, ", "))
	}
	line("")
	line("%s", c.colourText(eventPlain, "Three commands to try, in another terminal"))
	p.writeCommands(line)
	line("")
	line("%s", c.colourText(eventPlain, "Look around at any time"))
	line("     curl -sS %s/api/state/%s", p.api, firstTenant)
	line("     curl -sS %s %s/v1/apps/%s/mailbox", p.bearerHeader(), p.api, demoApps()[0].id)
	line("     curl -sS %s/mails", p.demoServer)
	line("")
	line("%s (Ctrl-C stops it). Apps were notified of each tenant's status when it approved them:", c.colourText(eventPlain, "What happens, as it happens"))
	return b.String()
}

func (p *demoInfo) writeCommands(line func(string, ...any)) {
	line("")
	line("  1. Report that %s was suspended: both apps are notified, and verify the sender.", firstTenant)
	line("     %s", p.reportCommand("suspend"))
	line("")
	line("  2. Stop the receiver and report that %s is back: about %s later each app's contact gets a mail.", firstTenant, formatSeconds(p.incident.OpenAfter))
	line("     curl -sS -X POST %s/stop && %s", p.demoServer, p.reportCommand("resume"))
	line("")
	line("  3. Start the receiver: it gets the present status within seconds, and about %s later a mail reports the recovery.", formatSeconds(p.incident.RecoverAfter))
	line("     curl -sS -X POST %s/start", p.demoServer)
}

// reportCommand is the command that reports a change of the first tenant.
func (p *demoInfo) reportCommand(change string) string {
	return fmt.Sprintf(`curl -sS %s -H 'Content-Type: application/json' -d '{"tenant":"%s","change_type":"%s"}' %s/v1/state-changes`,
		p.bearerHeader(), firstTenant, change, p.api)
}

func (p *demoInfo) bearerHeader() string { return "-H 'Authorization: Bearer " + p.token + "'" }

// helpPage is the front page of the demo server.
func (p *demoInfo) helpPage() string {
	return fmt.Sprintf(`The demo server of lamplighter dev

GET  /mails          the last %d caught mails
POST /stop           the receiver's port refuses connections
POST /start          it accepts notifications again
POST /secrets/{app}  tells the receiver an app's webhook secret, so that it checks signatures

An app of your own, received here (LAMPLIGHTER_TOKEN is the admin token that was printed):

curl -sS -X PUT -H "Authorization: Bearer $LAMPLIGHTER_TOKEN" -H 'Content-Type: application/json' -d '{"name":"My app","technical_contact":{"name":"Me","email":"me@example.com"},"endpoints":{"state_change":{"url":"%s","enabled":true}}}' %s/v1/apps/my-app | curl -sS --data-binary @- %s/secrets/my-app
curl -sS -X PUT -H "Authorization: Bearer $LAMPLIGHTER_TOKEN" %s/v1/apps/my-app/approvals/%s
`, maxMails, strings.Replace(p.hook, "<client id>", "my-app", 1), p.api, p.demoServer, p.api, firstTenant)
}

func formatSeconds(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
