// Package wire carries one HTTP/1.1 request and its answer at a time over connections that it
// keeps open.
//
// Deliveries are many small POST requests to few hosts. The goroutine that makes a request also writes it and reads
// the answer, in one write and usually one read. net/http passes both through two further goroutines per connection.
// On a busy worker that costs as much as all the rest of a delivery. Answers are parsed by net/http's own
// ReadResponse.
//
// It follows no redirects, uses no proxy, keeps no cookies, asks for no compression and has no HTTP/2. It reads a
// bounded part of an answer; a connection with an unread rest is closed.
package wire
