// Package client calls the admin API for the command line: single requests, lists page by page, and bodies of lines.
// It follows no redirect, because that would send the token elsewhere. It explains refusals, and repeats repeatable
// requests if the options say so.
package client
