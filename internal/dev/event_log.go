package dev

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
)

// eventColour is the ANSI colour of an event's kind.
type eventColour string

// Colours by the meaning of an event.
const (
	eventPlain eventColour = "1"
	eventInfo  eventColour = "36"
	eventGood  eventColour = "32"
	eventBad   eventColour = "31"
	eventMail  eventColour = "35"
)

// eventLog writes whole lines for a terminal. Events that come before the banner wait for it. It is safe for
// concurrent use.
type eventLog struct {
	colour bool
	now    func() time.Time

	mu      sync.Mutex
	w       io.Writer
	opened  bool
	waiting []string
}

// logEvent writes one line: the time, the kind and what happened.
func (c *eventLog) logEvent(colour eventColour, kind, text string) {
	line := c.now().Format(time.TimeOnly) + "  " + c.colourText(colour, fmt.Sprintf("%-9s", kind)) + " " + formatOneLine(text) + "\n"
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opened {
		c.waiting = append(c.waiting, line)
		return
	}
	_, _ = io.WriteString(c.w, line)
}

// openWithBanner writes the banner, then the events that waited for it.
func (c *eventLog) openWithBanner(banner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, banner+strings.Join(c.waiting, ""))
	c.opened, c.waiting = true, nil
}

// write writes a text unchanged, in one piece. Errors of the output are ignored.
func (c *eventLog) write(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, text)
}

// colourText colours a text if the output supports it.
func (c *eventLog) colourText(colour eventColour, text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}

// formatOneLine makes a text printable and replaces line breaks by spaces.
func formatOneLine(s string) string {
	return dropUnprintable(strings.ReplaceAll(s, "\n", " "))
}

// dropUnprintable drops control characters: much of what is shown comes from outside.
func dropUnprintable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
