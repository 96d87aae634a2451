package httpapi

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// MailSubscriptions executes the links in mails. Errors: mailer.ErrBadLink, and from Confirm also
// mailer.ErrOldLink.
type MailSubscriptions interface {
	// Unsubscribe unsubscribes the recipient of a link, or undoes that, and returns the apps.
	Unsubscribe(ctx context.Context, token string, action mailer.LinkAction) ([]partner.ClientID, error)
	// Confirm records that a recipient wants an app's mail; without commit it only reads the link.
	Confirm(ctx context.Context, token string, commit bool) (partner.ClientID, error)
	// BlockConfirmations ends all confirmations to the recipient of a link, or undoes that.
	BlockConfirmations(ctx context.Context, token string, action mailer.LinkAction) error
}

const (
	// maxForm bounds the body of a form, which holds one word.
	maxForm = 4 << 10
	// pageWithin bounds one request.
	pageWithin = 10 * time.Second
)

var mailPage = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{{.Title}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:10vh auto;padding:0 1rem}button{font:inherit;padding:.5rem 1rem}</style></head>
<body><h1>{{.Title}}</h1><p>{{.Text}}</p>
{{if .Apps}}<ul>{{range .Apps}}<li>{{.}}</li>{{end}}</ul>{{end}}
{{if .Button}}<form method="post">{{if .Undo}}<input type="hidden" name="undo" value="1">{{end}}<button type="submit">{{.Button}}</button></form>{{end}}
</body></html>
`))

type pageView struct {
	Title, Text, Button string
	Undo                bool
	Apps                []partner.ClientID
}

// mailRoutes are the pages to which links in mails lead. A GET shows a form and changes nothing, since mail programs and
// filters open links by themselves. The one-click POST of RFC 8058 works without the form.
func (a *API) mailRoutes() []route {
	return []route{
		{"showUnsubscribe", "GET", "/mail/unsubscribe/{token}", 0, noBody, []int{200}, a.newMailPageHandler(a.unsubscribeRecipient)},
		{"unsubscribe", "POST", "/mail/unsubscribe/{token}", 0, noBody, []int{200}, a.newMailPageHandler(a.unsubscribeRecipient)},
		{"showConfirm", "GET", "/mail/confirm/{token}", 0, noBody, []int{200}, a.newMailPageHandler(a.confirmRecipient)},
		{"confirm", "POST", "/mail/confirm/{token}", 0, noBody, []int{200}, a.newMailPageHandler(a.confirmRecipient)},
		{"showNeverAsk", "GET", "/mail/never-ask/{token}", 0, noBody, []int{200}, a.newMailPageHandler(a.blockConfirmations)},
		{"neverAsk", "POST", "/mail/never-ask/{token}", 0, noBody, []int{200}, a.newMailPageHandler(a.blockConfirmations)},
	}
}

// newMailPageHandler serves an HTML page, for errors too.
func (a *API) newMailPageHandler(page func(r *http.Request, undo bool) (pageView, error)) handler {
	return func(c *call) error {
		ctx, cancel := context.WithTimeout(c.ctx(), pageWithin)
		defer cancel()
		r := c.r.WithContext(ctx)
		r.Body = http.MaxBytesReader(c.w, r.Body, maxForm)
		status := http.StatusOK
		undo, err := readForm(r)
		var v pageView
		if err == nil {
			v, err = page(r, undo)
		}
		switch {
		case errors.Is(err, errHalfForm):
			status, err = http.StatusRequestTimeout, nil
			c.w.Header().Set("Connection", "close")
			v = pageView{Title: "The request was incomplete", Text: "Only a part of the form arrived, and nothing was changed. Please try again."}
		case errors.Is(err, mailer.ErrBadLink):
			status, err = http.StatusNotFound, nil
			v = pageView{Title: "This link does not work", Text: "It was not made by this service, or it was cut short. Nothing was changed."}
		case errors.Is(err, mailer.ErrOldLink):
			status, err = http.StatusGone, nil
			v = pageView{Title: "This link is outdated", Text: "Use the newest mail. If there is none, the app's owner has to set your address anew. Nothing was changed."}
		case err != nil:
			status = http.StatusServiceUnavailable
			c.w.Header().Set("Retry-After", strconv.Itoa(int(retryStore.Seconds())))
			v = pageView{Title: "Not possible at the moment", Text: "The service could not do this, and nothing was changed. Please try again in a minute."}
		}
		h := c.w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Robots-Tag", "noindex")
		c.w.WriteHeader(status)
		if sent := mailPage.Execute(c.w, v); sent != nil && err == nil {
			err = fmt.Errorf("send the page: %w", sent)
		}
		return err
	}
}

// errHalfForm reports a form of which only a part arrived, so that its action is not known.
var errHalfForm = errors.New("only a part of the form arrived")

// readForm reads whether a request undoes the one before.
func readForm(r *http.Request) (undo bool, err error) {
	err = r.ParseForm()
	if _, rest := io.Copy(io.Discard, r.Body); err == nil {
		err = rest
	}
	if _, long := errors.AsType[*http.MaxBytesError](err); err != nil && !long { // a form that is too long counts as one without undo
		return false, errHalfForm
	}
	return r.Method == http.MethodPost && r.PostForm.Get("undo") == "1", nil
}

// readLinkAction is the action of a request to a page with a button.
func readLinkAction(r *http.Request, undo bool) mailer.LinkAction {
	switch {
	case undo:
		return mailer.LinkResubscribe
	case r.Method == http.MethodPost:
		return mailer.LinkUnsubscribe
	default:
		return mailer.LinkPreview
	}
}

func (a *API) unsubscribeRecipient(r *http.Request, undo bool) (pageView, error) {
	action := readLinkAction(r, undo)
	apps, err := a.MailSubscriptions.Unsubscribe(r.Context(), r.PathValue("token"), action)
	if err != nil {
		return pageView{}, err
	}
	switch action {
	case mailer.LinkResubscribe:
		return pageView{Title: "You get the mail again", Text: "Error mail about these apps is sent to you again.", Apps: apps}, nil
	case mailer.LinkUnsubscribe:
		return pageView{
			Title: "You are unsubscribed", Text: "No more error mail about these apps is sent to your address. Others still get theirs.", Apps: apps,
			Button: "Undo", Undo: true,
		}, nil
	default:
		return pageView{Title: "Unsubscribe?", Text: "Error mail about these apps would no longer be sent to your address. Others still get theirs.", Apps: apps, Button: "Unsubscribe"}, nil
	}
}

func (a *API) confirmRecipient(r *http.Request, _ bool) (pageView, error) {
	commit := r.Method == http.MethodPost
	app, err := a.MailSubscriptions.Confirm(r.Context(), r.PathValue("token"), commit)
	if err != nil {
		return pageView{}, err
	}
	if commit {
		return pageView{Title: "Confirmed", Text: "You get a mail when an endpoint of this app fails, and one when it works again.", Apps: []partner.ClientID{app}}, nil
	}
	return pageView{Title: "Do you want this app's error mail?", Text: "You would get a mail when an endpoint of this app fails, and one when it works again.", Apps: []partner.ClientID{app}, Button: "Yes, confirm my address"}, nil
}

func (a *API) blockConfirmations(r *http.Request, undo bool) (pageView, error) {
	action := readLinkAction(r, undo)
	if err := a.MailSubscriptions.BlockConfirmations(r.Context(), r.PathValue("token"), action); err != nil {
		return pageView{}, err
	}
	switch action {
	case mailer.LinkResubscribe:
		return pageView{Title: "You can be asked again", Text: "When your address is set for an app's error mail, you are asked whether you want it."}, nil
	case mailer.LinkUnsubscribe:
		return pageView{
			Title: "You are not asked again", Text: "You are never asked again whether you want an app's error mail. Mail that you confirmed is still sent.",
			Button: "Undo", Undo: true,
		}, nil
	default:
		return pageView{
			Title: "Never be asked again?", Text: "You would not be asked again whether you want an app's error mail, even if your address is set for another app. Mail that you confirmed would still be sent.",
			Button: "Never ask me again",
		}, nil
	}
}
