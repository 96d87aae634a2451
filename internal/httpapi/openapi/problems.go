package openapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// problemStatuses lists the statuses of the problems that follow from the table.
func problemStatuses(op Operation) []string {
	out := []string{"429", "500", "503"}
	if len(op.Roles) > 0 {
		out = append(out, "401", "403", "422")
	}
	if strings.Contains(op.Pattern, "{") {
		out = append(out, "404")
	}
	if len(op.Bodies) > 0 {
		out = append(out, "400", "408", "413", "415")
	}
	if op.Conditional || op.Method != http.MethodGet {
		out = append(out, "412")
	}
	if op.Idempotent {
		out = append(out, "400", "409")
	}
	return out
}

func (f *sourceFiles) sharedProblems() obj {
	out := obj{}
	for code, list := range f.problems {
		out["Problem"+code] = problemAnswer(code, problemsForOperation(list, ""))
	}
	return out
}

// problemsForOperation are the problems that an operation may answer with; those that all may when it is empty.
func problemsForOperation(list []problem, op string) []problem {
	return slices.DeleteFunc(slices.Clone(list), func(p problem) bool { return len(p.Only) > 0 && !slices.Contains(p.Only, op) })
}

func problemAnswer(code string, list []problem) obj {
	status, _ := strconv.Atoi(code)
	names := []string{}
	switch code {
	case "409", "429", "503":
		names = append(names, "Retry-After")
	case "401":
		names = append(names, "WWW-Authenticate")
	case "405":
		names = append(names, "Allow")
	}
	return obj{
		"description": http.StatusText(status), "headers": headerRefs(names...),
		"content": obj{typeProblem: problemContent(status, list)},
	}
}

func problemContent(status int, list []problem) obj {
	examples := obj{}
	for _, p := range list {
		value := obj{"type": "urn:lamplighter:problem:" + p.Type, "title": p.Title, "status": status, "detail": p.Detail, "request_id": "141f5bad3119572ea5b737d7"}
		if len(p.Errors) > 0 {
			value["errors"] = p.Errors
		}
		if p.Budget != "" {
			value["budget"] = p.Budget
		}
		examples[p.Type] = obj{"summary": p.Title, "value": value}
	}
	return obj{"schema": obj{"$ref": "#/components/schemas/Problem"}, "examples": examples}
}
