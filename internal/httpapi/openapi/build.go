package openapi

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed *.yaml
var sources embed.FS

// Operation is one operation in the table of routes.
type Operation struct {
	ID, Method, Pattern string
	// Roles may call it; empty when every caller may, without a token.
	Roles []string
	// Success lists the statuses of its success.
	Success []int
	// Bodies are the media types of the body, empty when it accepts none.
	Bodies []string
	// BodyOptional is true where the body may be left out.
	BodyOptional bool
	// Conditional is true where If-Match is honoured, Idempotent where Idempotency-Key is.
	Conditional, Idempotent bool
}

// obj is a JSON object.
type obj = map[string]any

// operation is the files' description of one operation.
type operation struct {
	Tag, Summary, Description string
	Query                     []string
	Request                   *content
	// Lines is the body as NDJSON; its example is the text.
	Lines     *content
	Responses map[string]answer
	// Problems are statuses beyond those that follow from the table.
	Problems []string
}

type content struct {
	Schema  string
	Example any
}

type answer struct {
	Description, Schema string
	// Lines is the schema of each line of an answer in NDJSON.
	Lines   string
	HTML    bool
	Example any
}

type problem struct {
	Type, Title, Detail, Budget string
	Errors                      []map[string]string `json:"errors,omitempty" yaml:"errors"`
	// Only are the operations that answer so; all do when it is empty.
	Only []string `json:"-" yaml:"only"`
}

// sourceFiles is the content of the YAML files.
type sourceFiles struct {
	operations map[string]operation
	schemas    obj
	parameters map[string]obj
	problems   map[string][]problem
	webhooks   map[string]obj
	examples   map[string]any
}

const (
	typeProblem = "application/problem+json"
	typeLines   = "application/x-ndjson"
	typeJSON    = "application/json"
)

// Shapes are the schemas of an API's types, and examples of answers, by their names. An answer without an example of its own gets
// that of its schema.
type Shapes struct {
	Schemas  map[string]map[string]any
	Examples map[string]any
}

// BuildDocument makes the document of the operations that an API serves.
func BuildDocument(version string, ops []Operation, shapes Shapes) ([]byte, error) {
	f, err := readSources()
	if err != nil {
		return nil, err
	}
	f.examples = shapes.Examples
	for name, shape := range shapes.Schemas {
		if _, twice := f.schemas[name]; twice {
			return nil, fmt.Errorf("openapi: the schema %s is described twice", name)
		}
		f.schemas[name] = shape
	}
	var errs []error
	paths, tags := map[string]obj{}, map[string]bool{pushTag: true}
	for _, op := range ops {
		said, ok := f.operations[op.ID]
		if !ok {
			errs = append(errs, fmt.Errorf("operation %s is not described", op.ID))
			continue
		}
		made, err := f.buildOperation(op, said)
		if err != nil {
			errs = append(errs, fmt.Errorf("operation %s: %w", op.ID, err))
		}
		if paths[op.Pattern] == nil {
			paths[op.Pattern] = obj{}
		}
		paths[op.Pattern][strings.ToLower(op.Method)] = made
		tags[said.Tag] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	var list []obj
	for _, t := range slices.Sorted(maps.Keys(tags)) {
		text, ok := tagDescriptions()[t]
		if !ok {
			return nil, fmt.Errorf("openapi: tag %s is not described", t)
		}
		list = append(list, obj{"name": t, "description": text})
	}
	return json.Marshal(obj{
		"openapi": "3.1.0",
		"info": obj{
			"title": "Lamplighter", "version": version, "summary": "Tells every partner app when a customer's lights go on or off.",
			"license": obj{"name": "Apache 2.0", "identifier": "Apache-2.0"},
		},
		"servers": []obj{{"url": "/", "description": "This one."}},
		"tags":    list, "paths": paths, "webhooks": f.webhooks,
		"components": obj{
			"schemas": f.schemas, "responses": f.sharedProblems(), "headers": sharedHeaders(),
			"securitySchemes": obj{"bearer": obj{"type": "http", "scheme": "bearer", "description": "A token that an admin made: lmp_…"}},
		},
	})
}

// pushTag is the tag of what the service sends.
const pushTag = "Push"

// tagDescriptions are the texts of the tags.
func tagDescriptions() map[string]string {
	return map[string]string{
		"Approvals":     "Which tenants have approved an app. Only their changes are sent to it.",
		"Apps":          "Partners' applications: contacts, licences, keys, endpoints, pause and webhook secrets.",
		"Audit":         "Who wrote what, and when.",
		"Deliveries":    "What is pending for an app, what was attempted, why a notification has not arrived, and resync.",
		"Endpoints":     "An app's notification and integration endpoints: URL, switch, error mails, health and test.",
		"Engines":       "For the platform's engines: the configuration of integration endpoints, and reports of failed calls.",
		"Incidents":     "The time from an endpoint's failure to its recovery.",
		"Jobs":          "Work for a whole app that takes long, with its progress.",
		"Public":        "Without a token: the status of a tenant, keys, links in mails, and this document.",
		pushTag:         "What the service sends to apps.",
		"State changes": "The platform reports what changed about a tenant, and reads which apps have received it.",
		"Tenants":       "The status of a tenant as the pull shows it.",
		"Tokens":        "Tokens of callers, with role, expiry and last use.",
	}
}

// ListUnserved lists the operations that the files describe and the API does not serve.
func ListUnserved(ops []Operation) ([]string, error) {
	f, err := readSources()
	if err != nil {
		return nil, err
	}
	for _, op := range ops {
		delete(f.operations, op.ID)
	}
	return slices.Sorted(maps.Keys(f.operations)), nil
}

func readSources() (*sourceFiles, error) {
	f := &sourceFiles{operations: map[string]operation{}, schemas: obj{}, parameters: map[string]obj{}, problems: map[string][]problem{}, webhooks: map[string]obj{}}
	names, err := sources.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	for _, n := range names {
		text, err := sources.ReadFile(n.Name())
		if err != nil {
			return nil, fmt.Errorf("openapi: %w", err)
		}
		into := any(&f.operations)
		switch n.Name() {
		case "schemas.yaml":
			into = &f.schemas
		case "parameters.yaml":
			into = &f.parameters
		case "problems.yaml":
			into = &f.problems
		case "webhooks.yaml":
			into = &f.webhooks
		}
		d := yaml.NewDecoder(strings.NewReader(string(text)))
		d.KnownFields(true)
		if err := d.Decode(into); err != nil {
			return nil, fmt.Errorf("openapi: %s: %w", n.Name(), err)
		}
	}
	return f, nil
}

// buildOperation joins the table's and the files' description of one operation.
func (f *sourceFiles) buildOperation(op Operation, said operation) (obj, error) {
	if said.Tag == "" || said.Summary == "" {
		return nil, errors.New("it has no tag or no summary")
	}
	made := obj{"operationId": op.ID, "tags": []string{said.Tag}, "summary": said.Summary, "security": []obj{}}
	if said.Description != "" {
		made["description"] = said.Description
	}
	if len(op.Roles) > 0 {
		made["security"] = []obj{{"bearer": []string{}}}
		made["x-roles"] = op.Roles
	}
	parameters, err := f.buildParameters(op, said)
	if err != nil {
		return nil, err
	}
	if len(parameters) > 0 {
		made["parameters"] = parameters
	}
	if len(op.Bodies) > 0 {
		body, err := f.buildRequestBody(op, said)
		if err != nil {
			return nil, err
		}
		made["requestBody"] = body
	} else if said.Request != nil || said.Lines != nil {
		return nil, errors.New("it takes no body, and one is described")
	}
	made["responses"], err = f.buildResponses(op, said)
	return made, err
}

func (f *sourceFiles) buildParameters(op Operation, said operation) ([]obj, error) {
	var out []obj
	add := func(name, in string) error {
		p, ok := f.parameters[op.ID+"."+name]
		if !ok {
			p, ok = f.parameters[name]
		}
		if !ok || p["in"] != in {
			return fmt.Errorf("%s parameter %s is not described", in, name)
		}
		p = maps.Clone(p)
		p["name"] = name
		if in == "path" {
			p["required"] = true
		}
		out = append(out, p)
		return nil
	}
	for _, name := range pathParameters(op.Pattern) {
		if err := add(name, "path"); err != nil {
			return nil, err
		}
	}
	for _, name := range said.Query {
		if err := add(name, "query"); err != nil {
			return nil, err
		}
	}
	header := func(name, description string, longest int) {
		out = append(out, obj{"name": name, "in": "header", "schema": obj{"type": "string", "maxLength": longest}, "description": description})
	}
	if slices.Contains(op.Success, http.StatusNotModified) {
		header("If-None-Match", "The ETag that is known: 304 when it is the current one.", 1024)
	}
	if op.Conditional {
		header("If-Match", "The ETag that was read: 412 when it is not the current one.", 1024)
		header("If-None-Match", "412 when it names the current ETag; with *, 412 when there is anything.", 1024)
	}
	if op.Idempotent {
		header("Idempotency-Key", "A repeat with the same key gets the first success again, marked by Idempotent-Replayed, and changes nothing. In the answer to a body of lines each such line says replayed.", 255)
	}
	return out, nil
}

// pathParameters lists the names in a pattern's braces.
func pathParameters(pattern string) (names []string) {
	for segment := range strings.SplitSeq(pattern, "/") {
		if strings.HasPrefix(segment, "{") {
			names = append(names, strings.Trim(segment, "{}."))
		}
	}
	return names
}

func (f *sourceFiles) buildRequestBody(op Operation, said operation) (obj, error) {
	media := obj{}
	for _, t := range op.Bodies {
		c := said.Request
		if t == typeLines {
			c = said.Lines
		}
		if c == nil || c.Example == nil {
			return nil, fmt.Errorf("its body as %s is not described, or has no example", t)
		}
		if t == typeLines {
			text, err := f.describeLines(c.Schema, c.Example)
			if err != nil {
				return nil, err
			}
			media[t] = text
			continue
		}
		ref, err := f.schemaRef(c.Schema)
		if err != nil {
			return nil, err
		}
		media[t] = obj{"schema": ref, "example": c.Example}
	}
	return obj{"required": !op.BodyOptional, "content": media}, nil
}

// describeLines describes NDJSON: a text, with the schema of each of its lines.
func (f *sourceFiles) describeLines(schema string, example any) (obj, error) {
	ref, err := f.schemaRef(schema)
	return obj{"schema": obj{"type": "string", "description": "One JSON object a line.", "x-line-schema": ref["$ref"]}, "example": example}, err
}

func (f *sourceFiles) schemaRef(schema string) (obj, error) {
	if _, ok := f.schemas[schema]; !ok {
		return nil, fmt.Errorf("there is no schema %q", schema)
	}
	return obj{"$ref": "#/components/schemas/" + schema}, nil
}

func (f *sourceFiles) buildResponses(op Operation, said operation) (obj, error) {
	out := obj{}
	for _, status := range op.Success {
		code := strconv.Itoa(status)
		if status == http.StatusNotModified {
			out[code] = obj{"description": "The caller has it: its If-None-Match holds the current ETag.", "headers": headerRefs("ETag")}
			continue
		}
		if _, ok := said.Responses[code]; !ok {
			return nil, fmt.Errorf("its answer %s is not described", code)
		}
	}
	for code, a := range said.Responses {
		status, err := strconv.Atoi(code)
		if err != nil || status < http.StatusBadRequest && !slices.Contains(op.Success, status) {
			return nil, fmt.Errorf("its answer %s is described and never given", code)
		}
		made, err := f.buildAnswer(status, a)
		if err != nil {
			return nil, err
		}
		if op.Idempotent && status < http.StatusBadRequest {
			maps.Copy(made["headers"].(obj), headerRefs("Idempotent-Replayed"))
		}
		if status >= http.StatusBadRequest { // a problem can have this status, too, such as for a path that nothing serves
			if content, ok := made["content"].(obj); ok {
				content[typeProblem] = problemContent(status, problemsForOperation(f.problems[code], op.ID))
			}
		}
		out[code] = made
	}
	if slices.Contains(said.Query, "cursor") {
		said.Problems = append(said.Problems, "400")
	}
	for _, code := range append(problemStatuses(op), said.Problems...) {
		if _, ok := f.problems[code]; !ok {
			return nil, fmt.Errorf("there is no problem of status %s", code)
		}
		if out[code] != nil {
			continue
		}
		out[code] = obj{"$ref": "#/components/responses/Problem" + code}
		if own := problemsForOperation(f.problems[code], op.ID); len(own) > len(problemsForOperation(f.problems[code], "")) {
			out[code] = problemAnswer(code, own)
		}
	}
	return out, nil
}

func (f *sourceFiles) buildAnswer(status int, a answer) (obj, error) {
	made := obj{"description": a.Description, "headers": headerRefs("ETag")}
	if status == http.StatusNoContent {
		return made, nil
	}
	if a.Example == nil {
		a.Example = f.examples[a.Schema]
	}
	if a.Example == nil {
		return nil, fmt.Errorf("its answer %d has no example", status)
	}
	switch {
	case a.HTML:
		made["content"] = obj{"text/html": obj{"schema": obj{"type": "string"}, "example": a.Example}}
	case a.Lines != "":
		text, err := f.describeLines(a.Lines, a.Example)
		if err != nil {
			return nil, err
		}
		made["content"] = obj{typeLines: text}
	default:
		ref, err := f.schemaRef(a.Schema)
		if err != nil {
			return nil, err
		}
		made["content"] = obj{typeJSON: obj{"schema": ref, "example": a.Example}}
	}
	return made, nil
}

func headerRefs(names ...string) obj {
	out := obj{}
	for _, n := range append(names, "X-Request-Id") {
		out[n] = obj{"$ref": "#/components/headers/" + n}
	}
	return out
}

func sharedHeaders() obj {
	text := func(description string) obj { return obj{"description": description, "schema": obj{"type": "string"}} }
	return obj{
		"X-Request-Id": text("What the log calls the request."), "ETag": text("The version of what is shown, where it has one."),
		"Retry-After": text("Seconds to wait, where waiting helps."), "Idempotent-Replayed": text("true where the answer was given before, under the same Idempotency-Key."), "Allow": text("The methods that are allowed."), "WWW-Authenticate": text("How to authenticate."),
	}
}
