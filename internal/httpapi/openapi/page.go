package openapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

// RenderPage makes an HTML page from a document that BuildDocument made. The page needs no script, style or font
// from elsewhere.
func RenderPage(document []byte) ([]byte, error) {
	var doc pageDocument
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("openapi: read the document: %w", err)
	}
	t, err := template.New("page").Funcs(template.FuncMap{"pretty": formatJSON, "short": refName, "join": strings.Join}).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("openapi: the page's template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, doc.buildView()); err != nil {
		return nil, fmt.Errorf("openapi: write the page: %w", err)
	}
	return b.Bytes(), nil
}

// pageDocument is the part of a document that the page shows.
type pageDocument struct {
	Info  struct{ Title, Version, Summary string }
	Paths map[string]map[string]pageOperation
	Tags  []struct{ Name string }

	Components struct {
		Schemas   map[string]json.RawMessage
		Responses map[string]pageResponse
	}
}

type pageOperation struct {
	ID          string `json:"operationId"`
	Summary     string
	Description string
	Tags        []string
	Roles       []string `json:"x-roles"`
	Parameters  []struct {
		Name, In, Description string
		Required              bool
	}
	Body *struct {
		Content map[string]pageContent
	} `json:"requestBody"`
	Responses map[string]pageResponse

	Method, Path string
}

type pageContent struct {
	Schema   json.RawMessage
	Example  json.RawMessage
	Examples map[string]struct{ Value json.RawMessage }
}

type pageResponse struct {
	Ref         string `json:"$ref"`
	Description string
	Content     map[string]pageContent
}

type pageTag struct {
	Name       string
	Operations []pageOperation
}

type pageView struct {
	Title, Version, Summary string
	Tags                    []pageTag
	Schemas                 map[string]json.RawMessage
	Problems                map[string]pageResponse
}

func (d *pageDocument) buildView() pageView {
	v := pageView{Title: d.Info.Title, Version: d.Info.Version, Summary: d.Info.Summary, Schemas: d.Components.Schemas, Problems: d.Components.Responses}
	for _, tag := range d.Tags {
		t := pageTag{Name: tag.Name}
		for path, methods := range d.Paths {
			for method, op := range methods {
				if slices.Contains(op.Tags, tag.Name) {
					op.Method, op.Path = strings.ToUpper(method), path
					t.Operations = append(t.Operations, op)
				}
			}
		}
		slices.SortFunc(t.Operations, func(a, b pageOperation) int {
			return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
		})
		v.Tags = append(v.Tags, t)
	}
	return v
}

// formatJSON writes JSON with indentation; a text, such as NDJSON, stays as it is.
func formatJSON(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return string(raw)
	}
	return b.String()
}

// refName is the name that a reference ends with.
func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }
