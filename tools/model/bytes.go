package main

import (
	"bytes"
	"unsafe"
)

// less compares values that consist of bytes.
func less[T any](a, b *T) bool { return bytes.Compare(asBytes(a), asBytes(b)) < 0 }

func asBytes[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), int(unsafe.Sizeof(*v)))
}
