package mailer

import (
	"fmt"
	"io"
)

// WriteEML writes the mail as a server would receive it, signed unless signer is nil.
func (m *Message) WriteEML(w io.Writer, signer *Signer) error {
	msg, err := m.buildMsg(signer)
	if err != nil {
		return err
	}
	if _, err := msg.WriteTo(w); err != nil {
		return fmt.Errorf("write mail %s: %w", m.ID, err)
	}
	return nil
}
