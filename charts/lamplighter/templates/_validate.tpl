{{/* Refuses values that contradict each other; the schema checks only types. */}}
{{- define "lamplighter.validate" -}}
{{- $v := .Values -}}
{{- $c := $v.config -}}
{{- if not (get $c "public_url") -}}
{{- fail "config.public_url is required: the URL under which partners reach the public part, such as https://status.example.com" -}}
{{- end -}}
{{- $encryption := get $c "encryption" | default dict -}}
{{- if and (not (hasKey ($v.secrets | default dict) "encryption.key")) (not (get $encryption "key_file")) -}}
{{- fail "secrets.encryption.key is required: name a Secret and its key with the output of `lamplighter keys encryption`, or set config.encryption.key_file and mount the file with extraVolumes" -}}
{{- end -}}
{{- $signing := get $c "signing" | default dict -}}
{{- if and (not $v.signingKeys) (not (get $signing "keys")) -}}
{{- fail "signingKeys is empty: name a Secret and its key with the output of `lamplighter keys generate`, or set config.signing.keys and mount the files with extraVolumes" -}}
{{- end -}}
{{- if and $v.signingKeys (get $signing "keys") -}}
{{- fail "signingKeys and config.signing.keys are both set: keep one of them" -}}
{{- end -}}
{{- range $setting, $from := $v.secrets -}}
{{- $at := $c -}}
{{- $path := splitList "." $setting -}}
{{- range initial $path -}}{{- $at = get $at . | default dict -}}{{- end -}}
{{- if hasKey $at (printf "%s_file" (last $path)) -}}
{{- fail (printf "secrets.%s and config.%s_file are both set: keep one of them" $setting $setting) -}}
{{- end -}}
{{- end -}}
{{- $redis := get $c "redis" | default dict -}}
{{- if and $v.redisTLS.secret (hasKey $redis "tls") -}}
{{- fail "redisTLS.secret and config.redis.tls are both set: keep one of them" -}}
{{- end -}}
{{- if and $v.redisTLS.secret (ne (empty $v.redisTLS.cert) (empty $v.redisTLS.key)) -}}
{{- fail "redisTLS.cert and redisTLS.key go together: set both, or make both empty" -}}
{{- end -}}
{{- $url := get $redis "url" | default "" -}}
{{- if and $v.redisTLS.secret $url (not (hasPrefix "rediss" $url)) -}}
{{- fail "redisTLS.secret is set, but config.redis.url does not ask for TLS: begin it with rediss://, rediss+sentinel:// or rediss+cluster://" -}}
{{- end -}}
{{- if not (regexMatch "^https?://[^/@ ]+" (get $c "public_url")) -}}
{{- fail "config.public_url must begin with https:// and a host, such as https://status.example.com" -}}
{{- end -}}
{{- $smtp := get $c "smtp" | default dict -}}
{{- if and (not (get $smtp "host")) (not (get $smtp "disabled")) -}}
{{- fail "config.smtp.host is required, or no mail is sent when endpoints fail: set it with config.smtp.from, or set config.smtp.disabled to true to run without mail" -}}
{{- end -}}
{{- if and (eq $v.topology "split") $v.single -}}
{{- fail "single is set, but topology is split: it would be ignored; set api and worker, or topology to single" -}}
{{- end -}}
{{- if and (eq $v.topology "single") (or $v.api $v.worker) -}}
{{- fail "api or worker is set, but topology is single: it would be ignored; set single, or topology to split" -}}
{{- end -}}
{{- range (include "lamplighter.workloads" . | fromJsonArray) -}}
{{- $key := .key -}}
{{- $w := mergeOverwrite (deepCopy $v.workload) (index $v .key) -}}
{{- if and $w.hpa.enabled $w.keda.enabled -}}
{{- fail (printf "%s.hpa.enabled and %s.keda.enabled are both true: KEDA makes an autoscaler of its own, and two would conflict; enable one" .key .key) -}}
{{- end -}}
{{- if and $w.podDisruptionBudget.enabled (has (toString $w.podDisruptionBudget.maxUnavailable) (list "0" "0%")) -}}
{{- fail (printf "%s.podDisruptionBudget.maxUnavailable is 0: no node could ever be drained; make it 1 or more, or set enabled to false" .key) -}}
{{- end -}}
{{- range $kind := list "hpa" "keda" -}}
{{- $s := index $w $kind -}}
{{- if and $s.enabled (gt (int $s.minReplicas) (int $s.maxReplicas)) -}}
{{- fail (printf "%s.%s.minReplicas is larger than maxReplicas" $key $kind) -}}
{{- end -}}
{{- end -}}
{{- if and $w.keda.enabled (has "worker" .roles) (not $w.keda.serverAddress) -}}
{{- fail (printf "%s.keda.serverAddress is required: workers scale by metrics of Prometheus, so KEDA needs its address" .key) -}}
{{- end -}}
{{- end -}}
{{- if and $v.ingress.enabled $v.httpRoute.enabled -}}
{{- fail "ingress.enabled and httpRoute.enabled are both true: enable one" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the host of config.public_url" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not (has (urlParse (get $c "public_url")).hostname $v.ingress.hosts)) -}}
{{- fail (printf "ingress.hosts lacks %s, the host of config.public_url: partners are sent there for keys and links in mails" (urlParse (get $c "public_url")).hostname) -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the gateway" -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true: every process would be scraped twice; enable one" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.redis.to) -}}
{{- fail "networkPolicy.redis.to is empty: say where Redis is, such as [{ipBlock: {cidr: 10.1.2.3/32}}] or [{podSelector: {matchLabels: {app: redis}}}], or set networkPolicy.enabled to false" -}}
{{- end -}}
{{- $names := dict -}}
{{- range tuple $v.service.apiPort $v.service.publicPort $v.service.opsPort -}}
{{- if hasKey $names (toString .) -}}
{{- fail "service.apiPort, service.publicPort and service.opsPort must differ" -}}
{{- end -}}
{{- $_ := set $names (toString .) true -}}
{{- end -}}
{{- end -}}
