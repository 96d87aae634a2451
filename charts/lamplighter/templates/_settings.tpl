{{/* The settings file: the user's values, and settings that the chart determines. Secrets are named only by path. */}}
{{- define "lamplighter.settings" -}}
{{- $c := deepCopy .Values.config -}}
{{- $_ := set $c "listen" ":8080" -}}
{{- $_ := set $c "public_listen" ":8081" -}}
{{- $_ := set $c "ops_listen" ":9464" -}}
{{- $_ := set $c "shutdown_timeout" (printf "%ds" (int .Values.shutdown.drainSeconds)) -}}
{{- range $setting, $from := .Values.secrets -}}
{{- $path := splitList "." $setting -}}
{{- $at := $c -}}
{{- range initial $path -}}
{{- if not (hasKey $at .) -}}{{- $_ := set $at . dict -}}{{- end -}}
{{- $at = index $at . -}}
{{- end -}}
{{- $_ := set $at (printf "%s_file" (last $path)) (printf "/etc/lamplighter/secrets/%s" $setting) -}}
{{- end -}}
{{- if .Values.signingKeys -}}
{{- $paths := list -}}
{{- range $i, $from := .Values.signingKeys -}}
{{- $paths = append $paths (printf "/etc/lamplighter/signing/%d.pem" $i) -}}
{{- end -}}
{{- $_ := set $c "signing" (dict "keys" $paths) -}}
{{- end -}}
{{- with .Values.redisTLS -}}
{{- if .secret -}}
{{- $redis := get $c "redis" | default dict -}}
{{- $tls := dict -}}
{{- if .ca -}}{{- $_ := set $tls "ca" "/etc/lamplighter/redis/ca" -}}{{- end -}}
{{- if .cert -}}{{- $_ := set $tls "cert" "/etc/lamplighter/redis/cert" -}}{{- end -}}
{{- if .key -}}{{- $_ := set $tls "key" "/etc/lamplighter/redis/key" -}}{{- end -}}
{{- $_ := set $redis "tls" $tls -}}
{{- $_ := set $c "redis" $redis -}}
{{- end -}}
{{- end -}}
{{ toYaml $c }}
{{- end -}}

{{/* Mounts and volumes of settings and secrets. */}}
{{- define "lamplighter.mounts" -}}
- {name: config, mountPath: /etc/lamplighter/config, readOnly: true}
{{- if .Values.secrets }}
- {name: secrets, mountPath: /etc/lamplighter/secrets, readOnly: true}
{{- end }}
{{- if .Values.signingKeys }}
- {name: signing, mountPath: /etc/lamplighter/signing, readOnly: true}
{{- end }}
{{- if .Values.redisTLS.secret }}
- {name: redis-tls, mountPath: /etc/lamplighter/redis, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "lamplighter.volumes" -}}
- name: config
  configMap:
    name: {{ include "lamplighter.fullname" . }}
{{- if .Values.secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $setting, $from := .Values.secrets }}
      - secret:
          name: {{ $from.name }}
          items: [{key: {{ $from.key | quote }}, path: {{ $setting | quote }}}]
      {{- end }}
{{- end }}
{{- if .Values.signingKeys }}
- name: signing
  projected:
    defaultMode: 0440
    sources:
      {{- range $i, $from := .Values.signingKeys }}
      - secret:
          name: {{ $from.name }}
          items: [{key: {{ $from.key | quote }}, path: "{{ $i }}.pem"}]
      {{- end }}
{{- end }}
{{- with .Values.redisTLS }}
{{- if .secret }}
- name: redis-tls
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- if .ca }}
      - {key: {{ .ca | quote }}, path: ca}
      {{- end }}
      {{- if .cert }}
      - {key: {{ .cert | quote }}, path: cert}
      {{- end }}
      {{- if .key }}
      - {key: {{ .key | quote }}, path: key}
      {{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
