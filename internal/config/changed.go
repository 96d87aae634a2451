package config

import "slices"

// Changed lists the settings whose values differ, in the order of the documentation.
func Changed(before, after *Config) []Setting {
	var out []Setting
	for _, s := range Settings() {
		if !slices.Equal(values(s.at(before)), values(s.at(after))) {
			out = append(out, s)
		}
	}
	return out
}
