{{- define "janela.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "janela.selector" -}}
app.kubernetes.io/name: janela
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "janela.labels" -}}
{{ include "janela.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "janela.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "janela.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "janela.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* What every verb of janela needs to find its cluster, and to be let in: .settings, and the .password of its user. */ -}}
{{- define "janela.environment" -}}
env:
  {{- range $name, $value := .settings }}
  - {name: JANELA_{{ upper $name }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
  {{- end }}
  {{- if .password.name }}
  - name: JANELA_SASL_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ .password.name }}, key: {{ .password.key }}}}
  {{- end }}
{{- end -}}

{{- define "janela.envFrom" -}}
{{- with .Values.secretRef -}}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end -}}
