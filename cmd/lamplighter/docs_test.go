package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestReference compares docs/cli.md with the command line. Run with UPDATE_SCRIPTS=1 to write it.
func TestReference(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(newCLI(), kong.Name("lamplighter"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("..", "..", "docs", "cli.md")
	want := reference(parser.Model.Node)
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/cli.md does not say what the command line is: run UPDATE_SCRIPTS=1 go test ./cmd/lamplighter -run Reference")
	}
}

const referenceHead = `# The command line

This page is made from the command line itself, and a test compares the two. ` + "`lamplighter COMMAND --help`" + ` says the same.

Exit codes: 0 done; 1 it failed, or the service refused; 2 wrong usage, settings or files; 3 ` + "`apply --dry-run`" + ` found something
to do; 130 stopped by Ctrl-C. ` + "`why` and `changes get`" + ` exit with 1 until all apps have received the change, ` + "`endpoints test`" + ` when the endpoint
fails. Scripts can wait for that.

Colours are only used on terminals; ` + "`NO_COLOR`" + ` switches them off. Progress goes to stderr: one line on a terminal, plain lines otherwise.

## Files for apply

YAML, any number of documents. A document is about an app (` + "`client_id`" + `) or a tenant (` + "`tenant`" + `), with the members of
[the API](api.md); what ` + "`apps get -o yaml`" + ` prints can be edited and applied.

` + "```yaml" + `
client_id: app1
name: Awesome App
technical_contact: {name: Kim, email: kim@example.com}
endpoints:
  state_change:
    url: https://partner.example/hook
    enabled: true
approvals: [Cust12345, Cust12346]
---
tenant: Cust12345
state: Running
public_endpoint: online3.superoffice.com
` + "```" + `

- Members of a document are applied. Members that are left out stay as they are; ` + "`\"\"`" + ` and ` + "`[]`" + ` clear a member. ` + "`urls`" + ` is replaced as a whole.
- Approvals in the files are added. Approvals and apps that are not in the files are removed only with ` + "`--prune`" + `, after a question.
- All files are checked before anything is sent. A step that the service refuses is reported and does not stop the others.
- Each write has the revision it was decided on, and may be repeated. A run that was killed is completed by running it again.
- New apps have a webhook secret that is shown once. ` + "`--secrets-file`" + ` gets one line ` + "`{\"client_id\":…,\"webhook_secret\":…}`" + ` per app. The app's name is
  written there before the app is made; a later run with the same file replaces a secret that a killed run did not receive.

How long it takes: 2,000 new apps with 100,000 approvals took 17 s on two busy cores, with Redis beside the service; ` + "`apply`" + ` held at
most 54 MiB of memory and ` + "`serve`" + ` 88 MiB, in the run below too. Without a terminal, progress is printed every 5 s, such as

    Applying: 651 of 2,000 steps, 32,550 of 100,000 approvals, 5s

After two kills with SIGKILL on the way and another run, it ended with the same apps and approvals, and with a secret of every app in the file:

    go test ./test/e2e -run TestAKilledApply -v -apply.apps=2000 -apply.approvals=100000

## Commands

Commands that call the admin API share these flags:

`

// reference describes every command in Markdown.
func reference(root *kong.Node) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	api := apiNames(root)
	flagTable(&b, commandNamed(root, "apps", "list"), func(f *kong.Flag) bool { return slices.Contains(api, f.Name) })
	for _, leaf := range root.Leaves(true) {
		path := strings.TrimPrefix(leaf.FullPath(), "lamplighter ")
		fmt.Fprintf(&b, "\n### lamplighter %s\n\n%s\n\n    %s\n", path, oneLine(leaf.Help), leaf.Summary())
		if len(leaf.Positional) > 0 {
			b.WriteString("\n| argument | |\n|---|---|\n")
			for _, p := range leaf.Positional {
				fmt.Fprintf(&b, "| `%s` | %s |\n", p.Summary(), oneLine(p.Help))
			}
		}
		shared := commandUses(leaf, "server") && commandUses(leaf, "timeout")
		settings := commandUses(leaf, "config")
		flagTable(&b, leaf, func(f *kong.Flag) bool {
			told := f.Name == "help" || shared && slices.Contains(api, f.Name)
			setting := f.Group != nil && strings.HasPrefix(f.Group.Title, "Settings")
			return !told && !setting
		})
		if settings {
			b.WriteString("\nBesides, each setting has [a flag](configuration.md).\n")
		}
	}
	return b.String()
}

// apiNames are the flags of every command that calls the admin API.
func apiNames(*kong.Node) []string {
	return []string{"server", "token-file", "insecure-http", "output", "timeout"}
}

func commandNamed(node *kong.Node, names ...string) *kong.Node {
	for _, name := range names {
		node = findChild(node, name)
	}
	return node
}

func commandUses(node *kong.Node, name string) bool {
	return slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == name })
}

func flagTable(b *strings.Builder, node *kong.Node, want func(*kong.Flag) bool) {
	began := false
	for _, f := range node.Flags {
		if !want(f) || f.Hidden {
			continue
		}
		if !began {
			b.WriteString("\n| flag | |\n|---|---|\n")
			began = true
		}
		env := ""
		if len(f.Envs) > 0 {
			env = " Also `" + strings.Join(f.Envs, "`, `") + "`."
		}
		fmt.Fprintf(b, "| `%s` | %s%s |\n", strings.ReplaceAll(f.Summary(), "|", " or "), oneLine(f.Help), env)
	}
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}
