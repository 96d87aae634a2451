package config

import "slices"

// ChangedSettings lists the settings whose values differ, in the order of the documentation.
func ChangedSettings(before, after *Config) []Setting {
	var out []Setting
	for _, s := range AllSettings() {
		if !slices.Equal(formatField(s.fieldOf(before)), formatField(s.fieldOf(after))) {
			out = append(out, s)
		}
	}
	return out
}
