package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// TokenKeeper makes, lists and revokes tokens; its writes are durable and audited on return.
type TokenKeeper interface {
	// CreateToken returns registry.ErrTooMany when there is no room for another.
	CreateToken(ctx context.Context, t registry.Token, hash string, onlyIfNone bool, actor registry.Actor) (created bool, err error)
	// Tokens lists all, oldest first, with those that expired or were revoked recently.
	Tokens(ctx context.Context) ([]registry.Token, error)
	// Token returns registry.ErrNotFound when there is none.
	Token(ctx context.Context, id string) (registry.Token, error)
	// RevokeToken may be repeated. Errors: registry.ErrNotFound.
	RevokeToken(ctx context.Context, id string, actor registry.Actor) error
}

const (
	// defaultTokenLife is when a token expires unless its maker sets another time, maxTokenLife the latest possible
	// time. So a forgotten token expires.
	defaultTokenLife = 90 * 24 * time.Hour
	maxTokenLife     = 2 * 366 * 24 * time.Hour
	maxTokenName     = 200
	tokenIDBytes     = 8
	maxTokenID       = 64
	// shownOfToken is how many characters of a token lists show, so that it can be recognised: 6 of its 43 random
	// characters leave 222 bits unknown.
	shownOfToken = len(TokenPrefix) + 6
)

// The states of a token, a closed set.
const (
	tokenValid   = "valid"
	tokenExpired = "expired"
	tokenRevoked = "revoked"
)

// tokenAnswer is a token as answers show it. Secret is shown once, when it is made.
type tokenAnswer struct {
	ID         string    `json:"id"`
	Secret     string    `json:"token,omitempty" doc:"Only in the answer that makes it."`
	Prefix     string    `json:"prefix,omitempty" doc:"How the token begins."`
	Name       string    `json:"name"`
	Role       string    `json:"role" api:"ref=Role"`
	State      string    `json:"state" api:"ref=TokenState"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
}

func newTokenAnswer(t registry.Token, now time.Time) tokenAnswer {
	state := tokenValid
	switch {
	case !t.RevokedAt.IsZero():
		state = tokenRevoked
	case !t.Valid(now):
		state = tokenExpired
	}
	return tokenAnswer{
		ID: t.ID, Prefix: t.Prefix, Name: t.Name, Role: t.Role, State: state, CreatedAt: t.CreatedAt.UTC(),
		ExpiresAt: t.ExpiresAt.UTC(), LastUsedAt: t.LastUsedAt.UTC(), RevokedAt: t.RevokedAt.UTC(),
	}
}

func (a *API) tokenRoutes() []route {
	return []route{
		{"listTokens", "GET", "/v1/tokens", allowRoles(), noBody, []int{200, 304}, a.listTokens},
		{"createToken", "POST", "/v1/tokens", allowRoles(), jsonBody, []int{201}, a.createToken},
		{"getToken", "GET", "/v1/tokens/{id}", allowRoles(), noBody, []int{200}, a.getToken},
		{"revokeToken", "DELETE", "/v1/tokens/{id}", allowRoles(), noBody, []int{204}, a.revokeToken},
	}
}

// createToken makes a token and shows it this once.
func (a *API) createToken(c *call) error {
	doc, err := c.readDocument()
	if err != nil {
		return err
	}
	now := a.Now().UTC()
	t, err := readToken(doc, now)
	if err != nil {
		return err
	}
	id, err := a.randomHex(tokenIDBytes)
	if err != nil {
		return err
	}
	secret, err := NewToken(a.Random)
	if err != nil {
		return err
	}
	t.ID, t.Prefix = "tok_"+id, secret[:shownOfToken]
	_, err = a.TokenKeeper.CreateToken(c.ctx(), t, HashToken(secret), false, c.actor)
	if errors.Is(err, registry.ErrTooMany) {
		return invalidProblem(FieldError{Pointer: "", Detail: "there are too many tokens: revoke some; those that ended are forgotten after 90 days"})
	}
	if err != nil {
		return err
	}
	answer := newTokenAnswer(t, now)
	answer.Secret = secret
	c.w.Header().Set("Location", "/v1/tokens/"+t.ID)
	return c.writeJSON(http.StatusCreated, answer)
}

// readToken reads the document that describes a new token.
func readToken(doc any, now time.Time) (registry.Token, error) {
	f := &faults{}
	o := newObjectReader(doc, f, false)
	t := registry.Token{CreatedAt: now, ExpiresAt: now.Add(defaultTokenLife)}
	if name, ok := o.readRequiredString("name"); ok {
		switch {
		case utf8.RuneCountInString(name) > maxTokenName:
			o.add("/name", fmt.Sprintf("must be at most %d characters", maxTokenName))
		case strings.ContainsFunc(name, unicode.IsControl), strings.TrimSpace(name) == "":
			o.add("/name", "must be words, without control characters")
		}
		t.Name = name
	}
	if word, ok := o.readRequiredString("role"); ok {
		role, err := ParseRole(word)
		if err != nil {
			o.add("/role", err.Error())
		}
		t.Role = role.String()
	}
	if s, ok := o.readString("expires_at"); ok {
		t.ExpiresAt = readTime(o, "expires_at", s)
		if !t.ExpiresAt.IsZero() && (!t.ExpiresAt.After(now) || t.ExpiresAt.After(now.Add(maxTokenLife))) {
			o.add("/expires_at", "must be in the future, at most two years away")
		}
	}
	o.reportUnknownMembers()
	return t, f.err()
}

func (a *API) listTokens(c *call) error {
	p, err := c.readPage("tokens", "role", "state")
	if err != nil {
		return err
	}
	query := c.r.URL.Query()
	role, state := query.Get("role"), query.Get("state")
	f := &faults{}
	if _, err := ParseRole(role); role != "" && err != nil {
		f.add("/role", err.Error())
	}
	if state != "" && !slices.Contains([]string{tokenValid, tokenExpired, tokenRevoked}, state) {
		f.add("/state", "must be valid, expired or revoked")
	}
	after, ok := parseTokenPosition(p.after)
	if !ok {
		return badCursorProblem()
	}
	if err := f.err(); err != nil {
		return err
	}
	all, err := a.TokenKeeper.Tokens(c.ctx())
	if err != nil {
		return err
	}
	items, next := []tokenAnswer{}, ""
	for _, t := range all {
		answer := newTokenAnswer(t, a.Now())
		place := tokenPosition{t.CreatedAt.UnixMilli(), t.ID}
		if place.compare(after) <= 0 || role != "" && role != t.Role || state != "" && state != answer.State {
			continue
		}
		if len(items) == p.limit {
			last := items[len(items)-1]
			next = tokenPosition{last.CreatedAt.UnixMilli(), last.ID}.String()
			break
		}
		items = append(items, answer)
	}
	return answerList(c, p, items, next)
}

// tokenPosition is a token's place in the list, which does not change when other tokens are made or dropped.
type tokenPosition struct {
	created int64
	id      string
}

// String is the position as parseTokenPosition reads it.
func (t tokenPosition) String() string { return strconv.FormatInt(t.created, 10) + " " + t.id }

func (t tokenPosition) compare(other tokenPosition) int {
	return cmp.Or(cmp.Compare(t.created, other.created), cmp.Compare(t.id, other.id))
}

// parseTokenPosition reads a position; "" is the one before all tokens.
func parseTokenPosition(s string) (tokenPosition, bool) {
	if s == "" {
		return tokenPosition{}, true
	}
	ms, id, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(ms, 10, 64)
	return tokenPosition{n, id}, err == nil && isTokenID(id)
}

func isTokenID(id string) bool {
	return id != "" && len(id) <= maxTokenID && !strings.ContainsFunc(id, isUnsafeRune)
}

// readPathToken reads the token that the path names.
func (a *API) readPathToken(c *call) (registry.Token, error) {
	id := c.r.PathValue("id")
	if !isTokenID(id) {
		return registry.Token{}, notFoundProblem("token")
	}
	t, err := a.TokenKeeper.Token(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return t, notFoundProblem("token")
	}
	return t, err
}

func (a *API) getToken(c *call) error {
	t, err := a.readPathToken(c)
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, newTokenAnswer(t, a.Now()))
}

// revokeToken revokes a token, which may be the caller's own. Each process looks tokens up for every request, so it holds at
// once.
func (a *API) revokeToken(c *call) error {
	t, err := a.readPathToken(c)
	if err != nil {
		return err
	}
	if err := a.TokenKeeper.RevokeToken(c.ctx(), t.ID, c.actor); err != nil {
		return err
	}
	return c.writeNoContent()
}

// tokenRequest describes a new token in the API's document. readToken reads one.
type tokenRequest struct {
	_         struct{}  `api:"closed"`
	Name      string    `json:"name" api:"required,minLength=1,maxLength=200"`
	Role      string    `json:"role" api:"required,ref=Role"`
	ExpiresAt time.Time `json:"expires_at" doc:"90 days ahead when absent, two years at most."`
}
