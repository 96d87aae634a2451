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

// console writes whole lines for people. Events that come before open wait for it. It is safe for
// concurrent use.
type console struct {
	colour bool
	now    func() time.Time

	mu      sync.Mutex
	w       io.Writer
	opened  bool
	waiting []string
}

// event writes one line: when, what kind, and what happened.
func (c *console) event(colour eventColour, kind, text string) {
	line := c.now().Format(time.TimeOnly) + "  " + c.paint(colour, fmt.Sprintf("%-9s", kind)) + " " + oneLine(text) + "\n"
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opened {
		c.waiting = append(c.waiting, line)
		return
	}
	_, _ = io.WriteString(c.w, line)
}

// open writes the banner, then the events that waited.
func (c *console) open(banner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, banner+strings.Join(c.waiting, ""))
	c.opened, c.waiting = true, nil
}

// write writes text as it is, in one piece. An output that is gone stops nothing.
func (c *console) write(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, text)
}

// paint colours a text where the output can show it.
func (c *console) paint(colour eventColour, text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}

// oneLine is printable with line breaks as spaces.
func oneLine(s string) string {
	return printable(strings.ReplaceAll(s, "\n", " "))
}

// printable drops what could command a terminal: much of what is shown came from outside.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
