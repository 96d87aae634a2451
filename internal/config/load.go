package config

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// maxSecretFile limits a file that holds a secret: keys and passwords are far smaller.
const maxSecretFile = 64 << 10

// byteOrderMark is what some editors put before the first character.
const byteOrderMark = "\ufeff"

// Sources are what Load reads, apart from the defaults.
type Sources struct {
	// FileName is the name of the YAML file for messages, File its content; nil for none.
	FileName string
	File     []byte
	// Environ is in the form of os.Environ; names outside LAMPLIGHTER_ are ignored.
	Environ []string
	// Flags holds each flag given on the command line, by its name without dashes.
	Flags map[string]string
	// Defaults replace the table's, by key: see DevDefaults.
	Defaults map[string]string
	// ReadFile reads the files of secrets; smallfile.ReadFile outside tests.
	ReadFile func(name string) ([]byte, error)
}

// Loaded is a valid Config together with where each value came from.
type Loaded struct {
	Config  Config
	origins map[string]Origin
	// files are the read files of secrets.
	files []string
}

// SecretFiles are the files with secrets that the settings name: those of secret settings, and private keys.
func (l *Loaded) SecretFiles() []string {
	c := &l.Config
	out := append(slices.Clone(l.files), c.Signing.Keys...)
	for _, name := range []string{c.Redis.TLS.Key, c.SMTP.DKIM.Key} {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// Origin says where a setting's value came from.
func (l *Loaded) Origin(key string) Origin { return l.origins[key] }

// givenValue is the value that one source gives.
type givenValue struct {
	items  []string
	origin Origin
	// fromFile says that the one item is the name of a file with the value.
	fromFile bool
}

// layer is everything that one source gives, by key.
type layer map[string]givenValue

// put adds a value unless the same source gave the setting before, in either form.
func (l layer) put(key string, g givenValue, problems *Problems) {
	if before, ok := l[key]; ok {
		problems.add(key, g.origin, "given twice: also by %s; remove one", before.origin)
		return
	}
	l[key] = g
}

// Load merges the sources and checks the result. A non-nil error is Problems, and Loaded is then nil. CheckServe
// checks what only `serve` needs.
func Load(src Sources) (*Loaded, error) {
	settings := AllSettings()
	index := newIndex(settings)
	var problems Problems
	layers := []layer{
		readDefaults(settings, src.Defaults, &problems),
		readYAML(index, src.FileName, src.File, &problems),
		readEnv(index, src.Environ, &problems),
		readFlags(index, src.Flags, &problems),
	}
	l := &Loaded{origins: make(map[string]Origin, len(settings))}
	for _, s := range settings {
		g, ok := effectiveValue(layers, s.Key)
		if !ok {
			g = givenValue{origin: Origin{Source: FromDefault}}
		}
		l.origins[s.Key] = g.origin
		if ok {
			problems = append(problems, l.applySetting(s, g, src.ReadFile)...)
		}
	}
	if len(problems) == 0 {
		l.deriveSettings()
		problems = l.crossCheck()
	}
	if err := problems.AsError(); err != nil {
		return nil, err
	}
	return l, nil
}

func effectiveValue(layers []layer, key string) (givenValue, bool) {
	for _, l := range slices.Backward(layers) {
		if g, ok := l[key]; ok {
			return g, true
		}
	}
	return givenValue{}, false
}

// applySetting sets the field of one setting.
func (l *Loaded) applySetting(s Setting, g givenValue, readFile func(string) ([]byte, error)) Problems {
	var problems Problems
	items := g.items
	if g.fromFile {
		text, err := readSecret(readFile, items[0])
		if err != nil {
			problems.addErr(s.Key, g.origin, err)
			return problems
		}
		l.files = append(l.files, items[0])
		items = splitItems(s, text)
		if slices.ContainsFunc(items, holdsControl) {
			problems.add(s.Key, g.origin, "%s holds several lines or control characters: write only the secret into it", g.items[0])
			return problems
		}
	}
	if !s.IsList() && len(items) != 1 {
		problems.add(s.Key, g.origin, "holds a list, but takes one value")
		return problems
	}
	field := s.fieldOf(&l.Config)
	if err := assignField(field, items); err != nil {
		problems.addErr(s.Key, g.origin, err)
		return problems
	}
	for _, item := range items {
		// An empty scalar means that the setting is not set; an item of a list may not be empty.
		if s.Rule.check == nil || (item == "" && !s.IsList()) {
			continue
		}
		problems.addErr(s.Key, g.origin, s.Rule.check(item))
	}
	return problems
}

func readSecret(readFile func(string) ([]byte, error), name string) (string, error) {
	if readFile == nil {
		return "", fmt.Errorf("read %s: %w", name, fs.ErrInvalid)
	}
	b, err := readFile(name)
	if err != nil {
		return "", fmt.Errorf("the file with the secret cannot be read: %w", err)
	}
	if len(b) > maxSecretFile {
		return "", fmt.Errorf("%s holds %d bytes: a file with a secret has at most %d", name, len(b), maxSecretFile)
	}
	text := strings.TrimRight(string(b), "\r\n")
	switch {
	case text == "":
		return "", fmt.Errorf("%s is empty: write the secret into it", name)
	case strings.HasPrefix(text, byteOrderMark):
		return "", fmt.Errorf("%s begins with a byte-order mark: save it as UTF-8 without one", name)
	}
	return text, nil
}

// holdsControl is checked for each item of a list, since line breaks may separate them.
func holdsControl(item string) bool { return strings.ContainsFunc(item, unicode.IsControl) }

// splitItems splits the text of an environment variable, flag or file into items.
func splitItems(s Setting, text string) []string {
	if !s.IsList() {
		return []string{text}
	}
	if strings.TrimSpace(text) == "" {
		return []string{}
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

func readDefaults(settings []Setting, replaced map[string]string, problems *Problems) layer {
	out := layer{}
	known := map[string]bool{}
	for _, s := range settings {
		known[s.Key] = true
		text, origin := s.Default, Origin{Source: FromDefault}
		if r, ok := replaced[s.Key]; ok {
			text, origin = r, Origin{Source: FromDev}
		}
		if text != "" || s.IsList() {
			out.put(s.Key, givenValue{items: splitItems(s, text), origin: origin}, problems)
		}
	}
	for key := range replaced {
		if !known[key] {
			problems.add(key, Origin{Source: FromDev}, "unknown setting")
		}
	}
	return out
}

func readFlags(x settingIndex, flags map[string]string, problems *Problems) layer {
	out := layer{}
	for name, value := range flags {
		origin := Origin{Source: FromFlag, Name: name}
		if r, ok := x.flags[name]; ok {
			out.put(r.setting.Key, r.toValue(value, origin), problems)
			continue
		}
		problems.add("--"+name, Origin{}, "unknown flag%s", x.suggestFlag(name))
	}
	return out
}

// redactedValues is a setting's value for display: secrets are masked; of a Redis URL only user and password are.
// Empty values stay empty.
func (l *Loaded) redactedValues(s Setting) []string {
	items := formatField(s.fieldOf(&l.Config))
	if !s.Secret {
		return items
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		switch {
		case item == "":
			out = append(out, "")
		case s.OpenFlag:
			out = append(out, redactRedisURL(item))
		default:
			out = append(out, secret.Mask)
		}
	}
	return out
}

// redactRedisURL hides everything before the last @, since a password may contain one. secret.RedactURL cannot do it:
// a list of hosts is not a valid URL.
func redactRedisURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return secret.Mask
	}
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = secret.Mask + rest[i:]
	}
	return scheme + "://" + rest
}
