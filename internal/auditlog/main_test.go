package auditlog_test

import (
	"testing"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }
