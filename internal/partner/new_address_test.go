package partner_test

import (
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestNewAddresses(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"kim@example.com": true, "kim.o'hara+tag@sub.example.co": true, "kim_larsen-99@example.com": true, "kim=x@example.com": true,
		"påvel@example.com": true, "jose\u0301@example.com": true, "иван@example.com": true, "kim@bücher.example": true, "kim@xn--bcher-kva.example": true, "山田@例え.jp": true,
		"kim+2026.11@example.com": true, "9@example.com": true, "_kim@example.com": true, "kim--x@example.com": true,

		"root@localhost": false, "root@LOCALHOST": false, "a@b.localhost": false, "postmaster@internal.corp": false, "kim@mail.internal": false, "kim@printer.local": false,
		"kim@router.lan": false, "kim@nas.home": false, "kim@1.0.0.127.in-addr.arpa": false, "kim@x.onion": false, "kim@127.0.0.1": false, "kim@10.1": false, "kim@example.１２": false,
		"|cmd@x.example": false, "a|b@x.example": false, "`id`@x.example": false, "$(id)@x.example": false, "$HOME@x.example": false, "a!b@x.example": false, "a%b.example@x.example": false,
		"/var/mail/root@x.example": false, "-oQ/tmp@x.example": false, "-f@x.example": false, "a&b@x.example": false, "{a}@x.example": false, "*@x.example": false, "?@x.example": false,
		"#a@x.example": false, "~root@x.example": false, "^a@x.example": false, "'a'@x.example": false, "a'@x.example": false, "+a@x.example": false, "=a@x.example": false,
		"kіm@example.com": false, "kim@exаmple.com": false, "kim@xn--exmple-4nf.com": false, "соре@example.com": false, "kim.соре@example.com": false, "kim+соре@example.com": false,
		"ｋｉｍ@example.com": false, "kim@xn--a.example": false,
	} {
		for name, put := range map[string]func(*partner.App){
			"error_emails":      func(a *partner.App) { a.ErrorEmails = []string{"ada@example.com", address} },
			"technical_contact": func(a *partner.App) { a.TechnicalContact.Email = address },
		} {
			app := valid()
			app.ErrorEmails, app.TechnicalContact.Email = nil, ""
			put(app)
			if err := partner.ValidateApp(app); err != nil && ok {
				t.Errorf("%q as %s is no address: %v", address, name, err)
			} else if err != nil {
				continue // refused before it comes here
			}
			err := partner.CheckNewAddresses(app, nil, guard.IsConfusing)
			if (err == nil) != ok {
				t.Errorf("%q as %s: %v, want ok %v", address, name, err, ok)
			}
			if err != nil && (!strings.Contains(err.Error(), name) || strings.Contains(err.Error(), address)) {
				t.Errorf("%q as %s: %v", address, name, err)
			}
			if err := partner.CheckNewAddresses(app, app, guard.IsConfusing); err != nil {
				t.Errorf("%q stands there, and keeps others from writing: %v", address, err)
			}
		}
	}
}
