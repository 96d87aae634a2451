// Package incidents lists the incidents of all apps, open and closed, and closes one for a caller. Package alerting
// decides when incidents open and end.
package incidents
