package main

import (
	"errors"
	"net/http"
	"strings"

	"github.com/lamplighter/lamplighter/internal/client"
)

// suggestFix says what to try after an error of the admin API; empty when there is nothing.
func suggestFix(err error) string {
	if errors.Is(err, client.ErrUnexpectedAnswer) {
		return "--server must be the address of the admin API, the setting listen: http://127.0.0.1:8080 by default"
	}
	if _, ok := errors.AsType[*client.NoAnswer](err); ok {
		return "is the service running there, and is --server right? Run lamplighter healthcheck on its machine"
	}
	r, ok := errors.AsType[*client.Refusal](err)
	if !ok {
		return ""
	}
	switch r.Status {
	case http.StatusUnauthorized:
		return "check the token: it is unknown there, revoked or expired"
	case http.StatusForbidden:
		return "use a token of another role, such as operator or admin"
	case http.StatusNotFound:
		return suggestListCommand(r.Path)
	case http.StatusPreconditionFailed:
		return "another client changed it meanwhile, or it exists already: see it with get, then repeat"
	case http.StatusConflict:
		switch r.Type {
		case "idempotency-key-reused":
			return "use another --idempotency-key for another request"
		case "out-of-order":
			return "nothing is left to do: the tenant's newer change is known; lamplighter tenants get TENANT shows its source_sequence"
		case "probe-failed":
			return "correct it, or add --force"
		case "licence-missing":
			return "an admin grants it with lamplighter apps set APP --granted-licenses LICENSE,…"
		}
	case http.StatusInternalServerError:
		return "ask the service's operator"
	}
	return ""
}

// suggestListCommand is the command that lists existing objects, for a request that found none; empty when there is
// none.
func suggestListCommand(path string) string {
	for _, list := range []struct{ under, words string }{
		{"/v1/apps", "lamplighter apps list shows all apps"},
		{"/v1/incidents", "lamplighter incidents list shows the open incidents"},
		{"/v1/jobs", "lamplighter jobs list shows all jobs"},
		{"/v1/tokens", "lamplighter token list shows all tokens"},
	} {
		if strings.Contains(path, list.under) { // the API's URL may have a path of its own
			return list.words
		}
	}
	return ""
}
