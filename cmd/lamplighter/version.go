package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// buildInfo describes this binary.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// Modified says that the sources differed from the revision.
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// readBuildInfo joins the linker's version with what the Go tool recorded.
func readBuildInfo(linked string) buildInfo {
	b := buildInfo{Version: linked, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "vcs.time":
				b.Time = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
		if b.Version == "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}

type versionCmd struct {
	JSON bool `name:"json" help:"Print as JSON, with revision and platform."`
}

// Run prints the version.
func (c versionCmd) Run(a *commandEnv) error {
	if c.JSON {
		return printJSON(a, a.build)
	}
	fmt.Fprintf(a.stdout, "lamplighter %s (%s, %s)\n", a.build.Version, a.build.Go, a.build.Platform)
	return nil
}
