// Package httpapi serves the admin API, the public API and the operators' endpoints.
//
// Every operation is one row of a table (routes.go): its method and pattern, which roles may call
// it, what body it takes and which handler answers. The table is data, so that the test of every
// operation with every role, the metrics' labels and the answers to a wrong method come from it.
//
// Rules that hold for all admin operations:
//
//   - A failure is an RFC 9457 problem document; errors become problems in one place (problem.go).
//     Values that a caller sent are never repeated; pointers name members, path and query
//     parameters alike ("/client_id", "/limit").
//   - Bodies are read whole, at most 1 MiB, within 10 s; unknown members, duplicate members, text
//     that is not UTF-8 and more than 32 levels are refused. Members that only answers have
//     ("effective_url", "created_at" …) are ignored, so that an answer can be edited and sent back.
//   - NDJSON bodies are streamed: at most 64 KiB a line and 64 MiB in all, 30 s between two reads.
//     Lines are counted as an editor counts them; blank lines are skipped without an answer. A bad
//     line is answered with status 422 (413 when too long) and the others go on. When the store
//     fails, that line and all later ones are answered with 503, so that a line is never accepted
//     after one that it should have followed. Answers are written while the body is still being
//     read: a client that sends tens of thousands of lines must read meanwhile.
//   - An app's ETag is its revision. A write with If-Match fails with 412 when it is stale, one
//     without replaces what is there.
//   - Lists answer {"items": […], "next_cursor": "…"}; next_cursor is absent on the last page. A
//     cursor is only good for the list that gave it.
//
// A valid token is looked up on each request, so that a revocation holds at once everywhere.
package httpapi
