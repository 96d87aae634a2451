// Bench measures a running Lamplighter on this machine and puts every figure beside its
// reference of the same run. It starts the real binary and a real redis-server; the partners'
// receivers run in this process, and the plain client that serves as the reference runs in a
// process of its own, as the service does. See README.md for what each figure means.
package main
