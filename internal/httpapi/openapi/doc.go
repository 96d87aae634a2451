// Package openapi makes the OpenAPI 3.1 document of the HTTP API, and an HTML page of it, from two
// sources. The table of routes lists the operations, the roles that may call them, and the statuses of
// their success. The YAML files in this directory describe them, with an example each.
//
// Both must agree: BuildDocument fails for an operation that the files do not describe, and for
// statuses that differ. ListUnserved lists descriptions of operations that are not served. What all
// operations share, such as the problems that each can answer, follows from the table.
package openapi
