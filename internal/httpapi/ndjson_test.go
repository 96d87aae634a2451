package httpapi_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/registry"
)

const lines = "application/x-ndjson"

type answerLine struct {
	Line     int                  `json:"line"`
	Status   int                  `json:"status"`
	ID       string               `json:"id"`
	Sequence int64                `json:"sequence"`
	Replayed bool                 `json:"replayed"`
	Detail   string               `json:"detail"`
	Errors   []httpapi.FieldError `json:"errors"`
}

func (h *harness) post(t *testing.T, key, body string) []answerLine {
	t.Helper()
	r := request{method: "POST", path: "/v1/state-changes", role: "platform", body: body, contentType: lines}
	if key != "" {
		r.header = map[string]string{"Idempotency-Key": key}
	}
	rec := h.do(r)
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != lines {
		t.Fatalf("= %d %s: %s", rec.Code, rec.Header().Get("Content-Type"), rec.Body)
	}
	return answersOf(t, rec.Body)
}

func answersOf(t *testing.T, r io.Reader) []answerLine {
	t.Helper()
	var out []answerLine
	for s := bufio.NewScanner(r); s.Scan(); {
		var a answerLine
		if err := json.Unmarshal(s.Bytes(), &a); err != nil {
			t.Fatalf("answer line %q: %v", s.Text(), err)
		}
		out = append(out, a)
	}
	return out
}

func changeLine(n int) string {
	return fmt.Sprintf(`{"tenant":"Cust%d","change_type":"suspend"}`, n)
}

// changeLines is the lines of changes first to last, of fifty tenants in turn.
func changeLines(first, last int) string {
	var b strings.Builder
	for n := first; n <= last; n++ {
		b.WriteString(changeLine(n%50) + "\n")
	}
	return b.String()
}

func TestOneBadLineAmongAThousand(t *testing.T) {
	t.Parallel()
	refused := 0
	h := newHarness(t, func(d *deps) { d.Refused = func(n int) { refused += n } })
	var body strings.Builder
	for n := 1; n <= 1000; n++ {
		if n == 457 {
			body.WriteString("{\"tenant\":\"hunter2\",\n")
			continue
		}
		body.WriteString(changeLine(n) + "\n")
	}
	first := h.post(t, "k", body.String())
	if len(first) != 1000 || len(h.accepted) != 999 {
		t.Fatalf("%d answers, %d accepted", len(first), len(h.accepted))
	}
	for i, a := range first {
		want := 202
		if a.Line == 457 {
			want = 422
		}
		if a.Line != i+1 || a.Status != want || (want == 202) != (a.ID != "") {
			t.Fatalf("answer %d = %+v", i, a)
		}
		if strings.Contains(a.Detail, secretWord) {
			t.Errorf("the answer repeats the input: %s", a.Detail)
		}
	}
	for _, n := range h.batches {
		if n > 500 {
			t.Errorf("a batch of %d", n)
		}
	}
	if refused != 1 {
		t.Errorf("%d counted as refused, want 1", refused)
	}
	again := h.post(t, "k", body.String())
	if len(h.accepted) != 999 || !slices.EqualFunc(first, again, func(a, b answerLine) bool { return a.ID == b.ID && a.Line == b.Line && a.Status == b.Status }) {
		t.Errorf("a repeat changed something: %d accepted", len(h.accepted))
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	good := changeLine(1)
	for _, test := range []struct {
		name, body string
		want       []string // line:status
	}{
		{"NoLastNewline", good + "\n" + good, []string{"1:202", "2:202"}},
		{"Truncated", good + "\n" + good[:20], []string{"1:202", "2:422"}},
		{"BlankLinesCount", "\n\r\n" + good + "\r\n  \n" + good + "\n\n", []string{"3:202", "5:202"}},
		{"TooLong", good + "\n" + `{"tenant":"` + strings.Repeat("a", 70_000) + "\"}\n" + good, []string{"1:202", "2:413", "3:202"}},
		{"TooLongAtTheEnd", strings.Repeat("a", 70_000), []string{"1:413"}},
		{"NotUTF8", "{\"tenant\":\"\xff\"}\n" + good, []string{"1:422", "2:202"}},
		{"ArrayLine", "[]\n" + good, []string{"1:422", "2:202"}},
		{"Duplicate", `{"tenant":"a","tenant":"b"}`, []string{"1:422"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, a := range newHarness(t).post(t, "", test.body) {
				got = append(got, fmt.Sprintf("%d:%d", a.Line, a.Status))
				if a.Status != 202 && a.Detail == "" {
					t.Errorf("line %d refused without a word", a.Line)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("answers %v, want %v", got, test.want)
			}
		})
	}
	h := newHarness(t)
	h.want(t, 400, request{method: "POST", path: "/v1/state-changes", role: "platform", body: "\n \n", contentType: lines})
}

func TestALineOfItsOwnFaultStopsNoOther(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.lineErrs["Cust2"] = registry.ErrUnreadable
	got := h.post(t, "", changeLine(1)+"\n"+changeLine(2)+"\n"+changeLine(3))
	if got[0].Status != 202 || got[1].Status != 500 || got[2].Status != 202 {
		t.Errorf("answers = %+v", got)
	}
}

// TestStoreFailsAmongLines: nothing is accepted after a line that the store failed at, for lines
// of one tenant would change places.
func TestStoreFailsAmongLines(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.lineErrs["Cust2"] = errDown
	got := h.post(t, "", changeLine(1)+"\n"+changeLine(2)+"\n")
	if got[0].Status != 202 || got[1].Status != 503 {
		t.Errorf("answers = %+v", got)
	}
	body := changeLines(2, 899)
	got = h.post(t, "", changeLine(1)+"\n"+body)
	last := got[len(got)-1]
	if len(got) != 899 || last.Status != 503 || last.Detail == "" || strings.Contains(last.Detail, "10.9.8.7") {
		t.Errorf("%d answers, last %+v", len(got), last)
	}
	h.down = errDown
	rec := h.do(request{method: "POST", path: "/v1/state-changes", role: "platform", body: body, contentType: lines})
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("= %d, want one problem with 503", rec.Code)
	}
}

// TestLinesAreAnsweredWhileTheyCome uses a real connection: the answer to a line arrives before
// the next line is sent, and a body that breaks off keeps what came before.
func TestLinesAreAnsweredWhileTheyCome(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	srv := httptest.NewUnstartedServer(h.handler)
	srv.Config = httpapi.NewServer(h.handler, nil)
	srv.Start()
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", tokenOf("platform"), lines)
	send := func(s string) { fmt.Fprintf(conn, "%x\r\n%s\r\n", len(s), s) }
	send(changeLine(1) + "\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(resp.Body)
	for n := 1; n <= 3; n++ {
		text, err := body.ReadString('\n')
		if err != nil || !strings.HasPrefix(text, fmt.Sprintf(`{"line":%d,"status":202`, n)) {
			t.Fatalf("answer %d = %q, %v", n, text, err)
		}
		send(changeLine(n+1) + "\n")
	}
	send(`{"tenant":"Cu`)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest := answersOf(t, body)
	if len(rest) != 2 || rest[0].Line != 4 || rest[0].Status != 202 || rest[1].Line != 5 || rest[1].Status != 400 {
		t.Errorf("answers to the end = %+v", rest)
	}
}

func TestBodiesThatBreakOff(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"application/json", lines} {
		h := newHarness(t)
		srv := httptest.NewServer(h.handler)
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n{\"tenant\":", tokenOf("platform"), contentType)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		if !strings.Contains(string(text), `"status":400`) || len(h.accepted) != 0 {
			t.Errorf("%s: %d %s", contentType, resp.StatusCode, text)
		}
		conn.Close()
		srv.Close()
	}
}

// slowBody ends with the error of a read deadline that passed.
type slowBody struct{ first io.Reader }

func (s slowBody) Read(p []byte) (int, error) {
	n, err := s.first.Read(p)
	if errors.Is(err, io.EOF) {
		return n, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	return n, err
}

func TestSlowAndEndlessBodies(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	r := request{method: "POST", path: "/v1/state-changes", role: "platform", body: "x"}.make()
	r.Body = io.NopCloser(slowBody{strings.NewReader(`{"tenant"`)})
	rec := httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusRequestTimeout || rec.Header().Get("Connection") != "close" {
		t.Errorf("slow JSON = %d: %s", rec.Code, rec.Body)
	}
	r = request{method: "POST", path: "/v1/state-changes", role: "platform", body: "x", contentType: lines}.make()
	r.Body = io.NopCloser(slowBody{strings.NewReader(changeLine(1) + "\n{")})
	rec = httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	if got := answersOf(t, rec.Body); len(got) != 2 || got[0].Status != 202 || got[1].Line != 2 || got[1].Status != 408 {
		t.Errorf("slow lines = %+v", got)
	}
	r = request{method: "POST", path: "/v1/state-changes", role: "platform", body: "x", contentType: lines}.make()
	r.ContentLength = -1
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(changeLine(1)+"\n"), endless{}))
	rec = httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	if got := answersOf(t, rec.Body); len(got) != 2 || got[0].Status != 202 || got[1].Status != 413 {
		t.Errorf("endless lines = %+v", got)
	}
	r = request{method: "POST", path: "/v1/state-changes", role: "platform", body: "x", contentType: lines}.make()
	r.ContentLength = 65 << 20
	rec = httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("announced 65 MiB = %d", rec.Code)
	}
}

// endless is a line without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}
