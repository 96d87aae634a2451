package config

import (
	"strings"
)

// settingRef is a name that leads to a setting.
type settingRef struct {
	setting Setting
	// file says that the name is of the variant that names a file.
	file bool
}

func (r settingRef) toValue(value string, origin Origin) givenValue {
	if r.file {
		return givenValue{items: []string{value}, origin: origin, fromFile: true}
	}
	return givenValue{items: splitItems(r.setting, value), origin: origin}
}

// settingIndex finds settings by each of their names.
type settingIndex struct {
	keys, envs, flags map[string]settingRef
}

func newIndex(settings []Setting) settingIndex {
	x := settingIndex{keys: map[string]settingRef{}, envs: map[string]settingRef{}, flags: map[string]settingRef{}}
	for _, s := range settings {
		x.keys[s.Key] = settingRef{setting: s}
		x.envs[s.Env()] = settingRef{setting: s}
		if f := s.Flag(); f != "" {
			x.flags[f] = settingRef{setting: s}
		}
		if s.Secret {
			x.keys[s.FileKey()] = settingRef{setting: s, file: true}
			x.envs[s.FileEnv()] = settingRef{setting: s, file: true}
			x.flags[s.FileFlag()] = settingRef{setting: s, file: true}
		}
	}
	return x
}

// hasSection reports whether keys start with path and a dot.
func (x settingIndex) hasSection(path string) bool {
	for key := range x.keys {
		if strings.HasPrefix(key, path+".") {
			return true
		}
	}
	return false
}

func (x settingIndex) suggestKey(key string) string { return suggestName(key, x.keys) }

func (x settingIndex) suggestEnv(name string) string { return suggestName(name, x.envs) }

func (x settingIndex) suggestFlag(name string) string {
	near := suggestName(name, x.flags)
	return strings.ReplaceAll(near, "mean ", "mean --")
}

// suggestName returns a half-sentence with the known name closest to name, empty when none is close. Ties go to the
// name that sorts first.
func suggestName(name string, known map[string]settingRef) string {
	best, distance := "", len(name)/3+2
	for candidate := range known {
		d := editDistance(strings.ToLower(name), strings.ToLower(candidate))
		if d < distance || (d == distance && best != "" && candidate < best) {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return suggestLeaf(name, known)
	}
	return ": did you mean " + best + "?"
}

// suggestLeaf finds the one setting whose last part is name's last part, for names without their section.
func suggestLeaf(name string, known map[string]settingRef) string {
	leaf := name[strings.LastIndexByte(name, '.')+1:]
	best, count := "", 0
	for candidate := range known {
		if strings.HasSuffix(candidate, "."+leaf) {
			best, count = candidate, count+1
		}
	}
	if count != 1 {
		return ""
	}
	return ": did you mean " + best + "?"
}

// maxCompared limits the work for a name of arbitrary length.
const maxCompared = 128

// editDistance counts the characters to insert, delete, replace or swap with a neighbour.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), maxCompared)], b[:min(len(b), maxCompared)]
	var before, prev, row []int
	prev = make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev = prev, row
	}
	return prev[len(b)]
}
