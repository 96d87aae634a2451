package dev

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
)

// eventColour is the ANSI colour of an event's word.
type eventColour string

// Colours by what an event means to who watches.
const (
	eventPlain eventColour = "1"
	eventInfo  eventColour = "36"
	eventGood  eventColour = "32"
	eventBad   eventColour = "31"
	eventMail  eventColour = "35"
)

// eventLog writes whole lines for people. Events that come before open wait for it. It is safe for
// concurrent use.
type eventLog struct {
	colour bool
	now    func() time.Time

	mu      sync.Mutex
	w       io.Writer
	opened  bool
	waiting []string
}

// logEvent writes one line: when, what kind, and what happened.
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

// openWithBanner writes the banner, then the events that waited.
func (c *eventLog) openWithBanner(banner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, banner+strings.Join(c.waiting, ""))
	c.opened, c.waiting = true, nil
}

// write writes text as it is, in one piece. An output that is gone stops nothing.
func (c *eventLog) write(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, text)
}

// colourText colours a text where the output can show it.
func (c *eventLog) colourText(colour eventColour, text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}

// formatOneLine is printable with line breaks as spaces.
func formatOneLine(s string) string {
	return dropUnprintable(strings.ReplaceAll(s, "\n", " "))
}

// dropUnprintable drops what could command a terminal: much of what is shown came from outside.
func dropUnprintable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
