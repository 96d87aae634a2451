package e2e_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// secureMailServer is mailpit with STARTTLS and a login, behind a front that can be down or keep the
// server's answers to itself. The front sees nothing but TLS.
type secureMailServer struct {
	*mailServer

	front net.Listener
	// down closes connections as they come. mute, of those that have sent so many octets, withholds what
	// the server answers: 0 for none.
	down atomic.Bool
	mute atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

// wholeMail is more than a client sends before the mail itself, and less than any mail with it.
const wholeMail = 6000

// newSecureMailServer starts one; the settings say how to reach it by the front.
func newSecureMailServer(t testing.TB, s *stack, refused string) *secureMailServer {
	t.Helper()
	dir := t.TempDir()
	cert, key := smtptest.Start(t, smtptest.Options{}).WriteCertificate(t, dir)
	auth := filepath.Join(dir, "auth")
	if err := os.WriteFile(auth, []byte("lamp:correct-horse-battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &secureMailServer{mailServer: &mailServer{t: t, smtp: s.address(), api: "http://" + s.address()}, front: front}
	cmd := exec.Command(mailpit(t), "--smtp", m.smtp, "--listen", m.api[len("http://"):], "--disable-version-check", "--smtp-disable-rdns", "--quiet",
		"--smtp-tls-cert", cert, "--smtp-tls-key", key, "--smtp-require-starttls", "--smtp-auth-file", auth, "--enable-chaos",
		"--smtp-allowed-recipients", "^[^@]+@"+refused)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = front.Close()
		m.cut()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	redistest.Eventually(t, 30*time.Second, "mailpit answers", m.answers)
	go m.accept()
	s.env = append(s.env, "LAMPLIGHTER_SMTP_DISABLED=false", "LAMPLIGHTER_SMTP_TLS=mandatory", "LAMPLIGHTER_SMTP_CA="+cert,
		"LAMPLIGHTER_SMTP_FROM=Lamplighter <lights@platform.example>", "LAMPLIGHTER_SMTP_USERNAME=lamp", "LAMPLIGHTER_SMTP_PASSWORD=correct-horse-battery",
		"LAMPLIGHTER_SMTP_HOST=127.0.0.1", "LAMPLIGHTER_SMTP_PORT="+strconv.Itoa(front.Addr().(*net.TCPAddr).Port))
	return m
}

func (m *secureMailServer) accept() {
	for {
		c, err := m.front.Accept()
		if err != nil {
			return
		}
		if m.down.Load() {
			_ = c.Close()
			continue
		}
		back, err := net.Dial("tcp", m.smtp)
		if err != nil {
			_ = c.Close()
			continue
		}
		m.mu.Lock()
		m.conns = append(m.conns, c, back)
		m.mu.Unlock()
		var sent atomic.Int64
		go m.pipe(back, c, func(n int) bool { sent.Add(int64(n)); return true })
		go m.pipe(c, back, func(int) bool { return m.mute.Load() == 0 || sent.Load() < m.mute.Load() })
	}
}

// pipe carries octets one way until an end closes, then closes both; what pass refuses is dropped.
func (m *secureMailServer) pipe(to, from net.Conn, pass func(n int) bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && pass(n) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections.
func (m *secureMailServer) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
}

// greylist has the server answer every recipient 450, or none.
func (m *secureMailServer) greylist(on bool) {
	m.t.Helper()
	probability := "0"
	if on {
		probability = "100"
	}
	req, err := http.NewRequest(http.MethodPut, m.api+"/api/v1/chaos", bytes.NewReader([]byte(`{"Recipient":{"ErrorCode":450,"Probability":`+probability+`}}`)))
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		m.t.Fatalf("set chaos: %s %s", resp.Status, b)
	}
}
