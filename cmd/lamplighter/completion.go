package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Bash  completionBashCmd       `cmd:"" help:"For bash: source <(lamplighter completion bash)"`
	Zsh   completionZshCmd        `cmd:"" help:"For zsh: source <(lamplighter completion zsh)"`
	Fish  completionFishCmd       `cmd:"" help:"For fish: lamplighter completion fish | source"`
	Words completionCandidatesCmd `cmd:"" hidden:"" help:"List possible completions; the shells' scripts call it."`
}

type (
	completionBashCmd struct{}
	completionZshCmd  struct{}
	completionFishCmd struct{}
)

// Run prints the script.
func (completionBashCmd) Run(a *commandEnv) error {
	_, err := fmt.Fprint(a.stdout, `_lamplighter() {
  local IFS=$'\n' word=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=($(lamplighter completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ ${#COMPREPLY[@]} -gt 0 ]] || compopt -o default
}
complete -F _lamplighter lamplighter
`)
	return err
}

// Run prints the script.
func (completionZshCmd) Run(a *commandEnv) error {
	_, err := fmt.Fprint(a.stdout, `#compdef lamplighter
_lamplighter() {
  local -a found
  found=("${(@f)$(lamplighter completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n ${found[1]} ]]; then compadd -- "${found[@]}"; else _files; fi
}
compdef _lamplighter lamplighter
`)
	return err
}

// Run prints the script.
func (completionFishCmd) Run(a *commandEnv) error {
	_, err := fmt.Fprint(a.stdout, `function __lamplighter
  set -l given (commandline -opc) (commandline -ct)
  lamplighter completion words -- $given[2..-1] 2>/dev/null
end
complete -c lamplighter -a '(__lamplighter)'
`)
	return err
}

type completionCandidatesCmd struct {
	Given []string `arg:"" optional:"" help:"The words so far; the last one is incomplete."`
}

// Run prints the candidates for the last word, one per line.
func (c *completionCandidatesCmd) Run(a *commandEnv, k *kong.Kong) error {
	for _, word := range listCompletions(k.Model.Node, c.Given) {
		if _, err := fmt.Fprintln(a.stdout, word); err != nil {
			return err
		}
	}
	return nil
}

// listCompletions follows the given words through the commands and lists the candidates for the last one: commands,
// flags, and the values of an argument or flag with a closed set.
func listCompletions(node *kong.Node, given []string) []string {
	last := ""
	if len(given) > 0 {
		last, given = given[len(given)-1], given[:len(given)-1]
	}
	position := 0
	var open *kong.Flag // the flag whose value comes next
	for _, word := range given {
		switch {
		case open != nil:
			open = nil
		case strings.HasPrefix(word, "-"):
			open = findValueFlag(node, word)
		default:
			if child := findChild(node, word); child != nil {
				node, position = child, 0
				continue
			}
			position++
		}
	}
	var words []string
	name, _, assigned := strings.Cut(last, "=")
	switch {
	case open != nil:
		words = open.EnumSlice()
	case assigned && strings.HasPrefix(last, "-"):
		if f := findFlag(node, name); f != nil {
			for _, v := range f.EnumSlice() {
				words = append(words, name+"="+v)
			}
		}
	case strings.HasPrefix(last, "-"):
		words = listFlagNames(node)
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				words = append(words, child.Name)
			}
		}
		if position < len(node.Positional) {
			words = append(words, node.Positional[position].EnumSlice()...)
		}
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" || !strings.HasPrefix(w, last) })
	slices.Sort(words)
	return words
}

func findChild(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name || slices.Contains(child.Aliases, name) {
			return child
		}
	}
	return nil
}

// findValueFlag is the flag that a word names and whose value is the next word; nil for none.
func findValueFlag(node *kong.Node, word string) *kong.Flag {
	if strings.Contains(word, "=") {
		return nil
	}
	f := findFlag(node, word)
	if f == nil || f.IsBool() {
		return nil
	}
	return f
}

func findFlag(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			if word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}

func listFlagNames(node *kong.Node) []string {
	var words []string
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			words = append(words, "--"+f.Name)
			if f.Tag.Negatable != "" {
				words = append(words, "--no-"+f.Name)
			}
		}
	}
	return words
}
