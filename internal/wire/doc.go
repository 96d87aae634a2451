// Package wire carries one HTTP/1.1 request and its answer at a time over connections that it
// keeps open.
//
// Deliveries are many small posts to few hosts. Here a post is written, and its answer read, by
// the goroutine that makes it, in one write and usually one read; net/http hands each of them to
// two further goroutines for every connection, which on a busy worker costs as much as all else
// that a delivery needs. Answers are parsed by net/http's own ReadResponse.
//
// It follows no redirect, uses no proxy, keeps no cookies, asks for no compression, speaks no
// HTTP/2, and reads a bounded part of an answer: whatever it leaves unread ends with the
// connection.
package wire
