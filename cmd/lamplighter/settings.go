package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/smallfile"
)

// settingFlags are --config and one flag for each setting.
type settingFlags struct {
	ConfigFile string `name:"config" short:"c" env:"LAMPLIGHTER_CONFIG" placeholder:"FILE" help:"YAML file of settings."`
	kong.Plugins
}

// newSettingValues makes a pointer to a struct with one optional field per flag, with tags for kong. The table of
// settings determines the flags.
func newSettingValues() any {
	var fields []reflect.StructField
	add := func(typ reflect.Type, name, placeholder, help, group string) {
		tag := fmt.Sprintf("name:%q placeholder:%q help:%q group:%q", name, placeholder, help, group)
		fields = append(fields, reflect.StructField{
			Name: "F" + strconv.Itoa(len(fields)), Type: typ, Tag: reflect.StructTag(tag),
		})
	}
	for _, s := range config.AllSettings() {
		section, _, nested := strings.Cut(s.Key, ".")
		if !nested {
			section = "general"
		}
		group := "Settings: " + section
		if name := s.Flag(); name != "" {
			typ := reflect.TypeFor[*string]()
			if s.Kind() == config.Bool {
				typ = reflect.TypeFor[*bool]()
			}
			add(typ, name, formatPlaceholder(s), summarizeHelp(s), group)
		}
		if name := s.FileFlag(); name != "" {
			add(reflect.TypeFor[*string](), name, "FILE", "File that holds "+s.Key+".", group)
		}
	}
	return reflect.New(reflect.StructOf(fields)).Interface()
}

func formatPlaceholder(s config.Setting) string {
	if s.Default != "" {
		return s.Default
	}
	word := strings.ToUpper(string(s.Kind()))
	if s.IsList() {
		word += ",…"
	}
	return word
}

// summarizeHelp is the first sentence of a setting's help; docs/configuration.md has the rest.
func summarizeHelp(s config.Setting) string {
	help := strings.ReplaceAll(s.Help, "`", "")
	if first, _, ok := strings.Cut(help, ". "); ok {
		help = first + "."
	}
	return help
}

// flagValues are the given flags in the form that config reads.
func (f *settingFlags) flagValues() map[string]string {
	out := map[string]string{}
	for _, p := range f.Plugins {
		v := reflect.ValueOf(p).Elem()
		for field, value := range v.Fields() {
			name := field.Tag.Get("name")
			switch p := value.Interface().(type) {
			case *string:
				if p != nil {
					out[name] = *p
				}
			case *bool:
				if p != nil {
					out[name] = strconv.FormatBool(*p)
				}
			}
		}
	}
	return out
}

// loadSettings reads the settings from all sources; defaults replace those of the table.
func (f *settingFlags) loadSettings(a *commandEnv, defaults map[string]string) (*config.Loaded, error) {
	src := config.Sources{Environ: a.environ, Flags: f.flagValues(), Defaults: defaults, ReadFile: smallfile.ReadFile}
	if f.ConfigFile != "" {
		content, err := smallfile.ReadFile(f.ConfigFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("read settings: %w", err)}
		}
		src.FileName, src.File = f.ConfigFile, content
	}
	return config.Load(src)
}
