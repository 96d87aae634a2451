package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Limits of NDJSON bodies.
const (
	maxLine        = 64 << 10
	maxLines       = 64 << 20 // bytes of all lines
	maxLinesAtOnce = 500
	// recheckEvery is how often the caller's token is looked up again while a body is streamed.
	recheckEvery = 500 * time.Millisecond
)

// line is one line of a body that is JSON.
type line struct {
	number int
	doc    any
	// answer is set by the lineHandler.
	answer *lineAnswer
}

// lineAnswer answers one line.
type lineAnswer struct {
	Line     int          `json:"line" api:"min=1"`
	Status   int          `json:"status" doc:"The status that the line by itself would have got."`
	ID       string       `json:"id,omitempty"`
	Sequence int64        `json:"sequence,omitempty"`
	Replayed bool         `json:"replayed,omitempty" doc:"It was accepted before under the same key, and this repeat changed nothing. Absent otherwise."`
	Detail   string       `json:"detail,omitempty"`
	Errors   []FieldError `json:"errors,omitempty"`
}

func (l line) setProblem(p *Problem) {
	*l.answer = lineAnswer{Line: l.number, Status: p.Status, Detail: p.Detail, Errors: p.Errors}
}

// lineHandler handles lines in their order and sets their answers. An error means that the store failed: lines that it left
// unanswered count as not done, and no later line is tried.
type lineHandler func(ctx context.Context, lines []line) error

// lineStream reads NDJSON and answers line by line, in order.
type lineStream struct {
	c           *call
	api         *API
	lines       *lineReader
	handleLines lineHandler
	// err is the failure after which lines are no longer tried.
	err error
	// done is true when the body has no more lines, cut when reading it failed before its end.
	done, cut bool
	// checked is when the caller's token was last found valid.
	checked time.Time
	// began is true once something was answered.
	began bool
}

// streamLines answers a body of lines. It calls refused with the number of invalid lines.
func (a *API) streamLines(c *call, refused func(n int), batch lineHandler) error {
	if c.r.ContentLength > maxLines {
		return tooLargeProblem(budgetBody, "At most "+strconv.Itoa(maxLines)+" bytes of lines are accepted: send them in parts.")
	}
	control := http.NewResponseController(c.w)
	if err := ignoreUnsupported(control.EnableFullDuplex()); err != nil {
		return err
	}
	limitBodyIdleTime(c.r)
	s := &lineStream{c: c, api: a, lines: newLineReader(http.MaxBytesReader(c.w, c.r.Body, maxLines)), handleLines: batch, checked: a.Now()}
	for !s.done {
		answers := s.handleNextLines()
		if s.err != nil && !s.began && !anyLineDone(answers) {
			return s.err // no line was done, so the whole answer is one problem
		}
		refused(countInvalidLines(answers))
		if err := s.writeAnswers(control, answers); err != nil {
			return err
		}
	}
	if !s.began {
		return malformedProblem("The body holds no line.")
	}
	if s.err != nil {
		a.Log.LogAttrs(c.ctx(), slog.LevelError, "a body of lines was not handled to its end", slog.String("request_id", c.id), slog.Any("err", s.err))
	}
	if s.cut {
		return s.closeConnection(control)
	}
	return nil
}

// countInvalidLines counts the lines that broke a rule, whatever the store says.
func countInvalidLines(answers []*lineAnswer) (n int) {
	for _, a := range answers {
		switch a.Status {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			n++
		}
	}
	return n
}

func anyLineDone(answers []*lineAnswer) bool {
	for _, a := range answers {
		if a.Status < http.StatusBadRequest {
			return true
		}
	}
	return len(answers) == 0
}

// handleNextLines reads the lines that have arrived, at most maxLinesAtOnce, and handles them.
func (s *lineStream) handleNextLines() []*lineAnswer {
	var answers []*lineAnswer
	var good []line
	for len(answers) < maxLinesAtOnce {
		number, text, err := s.lines.next()
		if errors.Is(err, io.EOF) {
			s.done = true
			break
		}
		answer := &lineAnswer{Line: number}
		answers = append(answers, answer)
		l := line{number: number, answer: answer}
		if err == nil {
			l.doc, err = s.c.parseJSONInTurn(text)
		}
		if err == nil {
			good = append(good, l)
		} else {
			s.answerBadLine(l, err)
		}
		if s.done || !s.lines.hasLine() {
			break
		}
	}
	after := s.err != nil
	if s.err == nil && len(good) > 0 {
		s.err = s.recheckCaller()
	}
	if s.err == nil && len(good) > 0 {
		s.err = s.handleLines(s.c.ctx(), good)
	}
	if s.err != nil {
		s.answerUndone(good, after)
	}
	return answers
}

// recheckCaller returns an error when the token has expired or was revoked while the body is streamed.
func (s *lineStream) recheckCaller() error {
	now := s.api.Now()
	if now.Sub(s.checked) < recheckEvery {
		return nil
	}
	s.checked = now
	return s.api.auth.recheckToken(s.c.ctx(), s.c.token, now)
}

// answerBadLine answers a line that is not JSON, or the end of a body that cannot be read further.
func (s *lineStream) answerBadLine(l line, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p, _ = problemFromError(err, s.api.StoreFault)
	}
	l.setProblem(p)
	if _, cut := errors.AsType[*truncatedBodyError](err); cut {
		s.done, s.cut = true, true
		return
	}
	if p.Status == http.StatusBadRequest {
		l.answer.Status = http.StatusUnprocessableEntity
	}
}

// answerUndone answers lines that a failure left undone: those in the batch that failed, or after it.
func (s *lineStream) answerUndone(lines []line, after bool) {
	p, _ := problemFromError(s.err, s.api.StoreFault)
	if after && p.Status == http.StatusInternalServerError { // the failure was not caused by these lines
		p.Status = http.StatusServiceUnavailable
	}
	detail := "Not done, because the store failed at this line or before it: send it and all after it again in this order, with the same Idempotency-Key."
	if p.Status == http.StatusUnauthorized {
		detail = "Not done: " + p.Detail
	}
	if _, few := errors.AsType[fewReplicas](s.err); few {
		detail = "Not confirmed by enough replicas: send it and all after it again in this order, with the same Idempotency-Key."
	}
	for _, l := range lines {
		if l.answer.Status == 0 {
			l.setProblem(&Problem{Status: p.Status, Detail: detail})
		}
	}
}

func (s *lineStream) writeAnswers(control *http.ResponseController, answers []*lineAnswer) error {
	if len(answers) == 0 {
		return nil
	}
	if err := ignoreUnsupported(control.SetWriteDeadline(time.Now().Add(lineWithin))); err != nil {
		return err
	}
	if !s.began {
		s.c.setNDJSONHeaders()
		if s.cut {
			s.c.w.Header().Set("Connection", "close")
		}
		s.began = true
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, answer := range answers {
		if err := e.Encode(answer); err != nil {
			return err
		}
	}
	if _, err := s.c.w.Write(b.Bytes()); err != nil {
		return err
	}
	if err := ignoreUnsupported(control.Flush()); err != nil {
		return err
	}
	return nil
}

// closeConnection closes a connection whose body broke off: net/http would wait for two more minutes for the rest of the
// body.
func (s *lineStream) closeConnection(control *http.ResponseController) error {
	conn, _, err := control.Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(lineWithin))
	_, _ = io.WriteString(conn, "0\r\n\r\n") // the answer's last chunk
	_ = conn.Close()
	return nil
}

// truncatedBodyError says why a body could not be read to its end.
type truncatedBodyError struct{ problem *Problem }

func (e *truncatedBodyError) Error() string { return e.problem.Error() }

// Unwrap returns the problem.
func (e *truncatedBodyError) Unwrap() error { return e.problem }

// lineReader splits a body into lines, counting as editors do and skipping blank ones.
type lineReader struct {
	buf    *bufio.Reader
	number int
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{buf: bufio.NewReaderSize(r, maxLine)} }

// hasLine reports whether a whole line can be read without waiting.
func (l *lineReader) hasLine() bool {
	b, _ := l.buf.Peek(l.buf.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

// next returns the next line that is not blank, valid until the following call. The error is io.EOF at the end and
// *truncatedBodyError when the body broke off; no line follows either. Any other error is about this line only.
func (l *lineReader) next() (int, []byte, error) {
	for {
		text, err := l.buf.ReadSlice('\n')
		if len(text) > 0 || errors.Is(err, bufio.ErrBufferFull) {
			l.number++
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return l.number, nil, l.skipRest()
		case err != nil && !errors.Is(err, io.EOF):
			if len(text) == 0 {
				l.number++
			}
			return l.number, nil, newTruncatedBodyError(err)
		}
		if len(bytes.TrimSpace(text)) > 0 {
			return l.number, text, nil
		}
		if err != nil {
			return 0, nil, io.EOF
		}
	}
}

// skipRest discards the rest of a line that is too long.
func (l *lineReader) skipRest() error {
	for {
		_, err := l.buf.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF):
			p := tooLargeProblem(budgetBody, "A line may have at most "+strconv.Itoa(maxLine)+" bytes.")
			p.Title = "The line is too long"
			return p
		default:
			return newTruncatedBodyError(err)
		}
	}
}

// newTruncatedBodyError makes the error that a line's answer shows when the body ends there.
func newTruncatedBodyError(err error) error {
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &size):
		return &truncatedBodyError{tooLargeProblem(budgetBody, "The body is longer than "+strconv.FormatInt(size.Limit, 10)+" bytes: this line and all after it were not read.")}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &truncatedBodyError{newProblem(http.StatusRequestTimeout, "too-slow", "The body came too slowly", "The rest of the body did not come in time: this line and all after it were not read.")}
	default:
		return &truncatedBodyError{malformedProblem("The body broke off within or before this line.")}
	}
}
