// Package openapi makes the OpenAPI 3.1 document of the HTTP API, and a page for people to read
// it, out of two sources: the table of routes, which says what there is, who may call it and how
// it succeeds; and the YAML files beside this one, which say what it means, with an example each.
//
// Neither can stand without the other: Build fails on an operation that the files do not describe
// and on statuses that differ; Leftover lists descriptions of operations that do not exist. What all
// operations share, such as the problems that each can answer, follows from the table.
package openapi
