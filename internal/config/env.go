package config

import (
	"regexp"
	"slices"
	"strings"
)

// ClientVariables are environment variables of the command that are not settings: the settings file, and the access
// of client commands to the admin API.
func ClientVariables() []string {
	return []string{Prefix + "CONFIG", Prefix + "SERVER", Prefix + "URL", Prefix + "TOKEN", Prefix + "TOKEN_FILE", Prefix + "INSECURE_HTTP"}
}

// serviceLink matches the variables that Kubernetes sets in every pod for a Service whose name starts with
// "lamplighter".
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

// serviceAddress matches the value of such a variable that ends in _PORT. Its name can also be that of a setting: a
// Service lamplighter-smtp sets LAMPLIGHTER_SMTP_PORT.
var serviceAddress = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// readEnv reads LAMPLIGHTER_ variables. An empty one counts as absent, because container tools cannot leave a
// variable out.
func readEnv(x settingIndex, environ []string, problems *Problems) layer {
	out := layer{}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, Prefix) || isClusterVariable(name, value) || slices.Contains(ClientVariables(), name) {
			continue
		}
		r, known := x.envs[name]
		switch {
		case !known:
			problems.add(name, Origin{}, "unknown environment variable%s", x.suggestEnv(name))
		case value != "":
			out.put(r.setting.Key, r.toValue(value, Origin{Source: FromEnv, Name: name}), problems)
		}
	}
	return out
}

func isClusterVariable(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceAddress.MatchString(value)
}
