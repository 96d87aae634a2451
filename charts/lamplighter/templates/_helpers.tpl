{{/* Names and labels. */}}
{{- define "lamplighter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "lamplighter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "lamplighter.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lamplighter.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lamplighter.selector" -}}
app.kubernetes.io/name: {{ include "lamplighter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lamplighter.labels" -}}
{{ include "lamplighter.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "lamplighter.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "lamplighter.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "lamplighter.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The workloads: a JSON list of {component, roles, key}. */}}
{{- define "lamplighter.workloads" -}}
{{- if eq .Values.topology "single" -}}
[{"component":"all","key":"single","roles":["api","worker"]}]
{{- else -}}
[{"component":"api","key":"api","roles":["api"]},{"component":"worker","key":"worker","roles":["worker"]}]
{{- end -}}
{{- end -}}

{{/* The component that serves HTTP. */}}
{{- define "lamplighter.front" -}}
{{- ternary "all" "api" (eq .Values.topology "single") -}}
{{- end -}}

{{- define "lamplighter.job" -}}
{{- .Values.metrics.job | default (include "lamplighter.fullname" .) -}}
{{- end -}}

{{/* Restricted, as the Pod Security Standards ask. */}}
{{- define "lamplighter.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "lamplighter.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
