package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestBudgets: the table in docs/api.md is the code's, and the API's description knows the same names.
func TestBudgets(t *testing.T) {
	t.Parallel()
	api := newHarness(t).api
	var table strings.Builder
	names := map[string]bool{}
	for _, b := range api.Budgets() {
		raised := ""
		if b.Raised {
			raised = "yes"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", b.Name, b.Owner, b.Size, raised)
		names[b.Name] = true
	}
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "| `budget` | owner | size | `budget_factor` |\n|---|---|---|---|\n"+table.String()+"\n") {
		t.Errorf("docs/api.md must have this table:\n%s", &table)
	}
	var doc struct {
		Components struct {
			Schemas struct {
				BudgetName struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(maps.Keys(names)); !slices.Equal(doc.Components.Schemas.BudgetName.Enum, want) {
		t.Errorf("the description has the budgets %v, want %v", doc.Components.Schemas.BudgetName.Enum, want)
	}
}
