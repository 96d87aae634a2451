// Package apps writes apps. There is one function for each intent: Writer.Write for new settings, SetPaused, RotateSecret and
// Delete for callers of the API, SwitchOffUnlessChanged for the loops that switch an endpoint off, and ChangeApp for the mailer,
// which marks addresses.
//
// Each write reads the stored app, checks, and writes if the stored app is still the one that was read. After a conflict
// with another write it starts over, unless the caller set a precondition. What must follow a write, such as the switch of
// the mailbox, is done by the Propagator after the write is durable. It may be lost; the loops repair it.
package apps
