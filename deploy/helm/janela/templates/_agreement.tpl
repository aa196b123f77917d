{{- /* What values must agree on, which a schema can't say; where they don't, nothing is rendered. */ -}}
{{- define "janela.agreement" -}}
{{- $least := include "janela.graceSecondsMin" . | int -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %d: a stop may take four fifths of settings.transaction_timeout_ms and some seconds, so it must be at least %d" (int .Values.terminationGracePeriodSeconds) $least) -}}
{{- end -}}
{{- $policy := .Values.networkPolicy -}}
{{- if $policy.enabled -}}
{{- range splitList "," .Values.settings.bootstrap_servers -}}
{{- $port := regexFind "[0-9]+$" (trim .) | int -}}
{{- if not (include "janela.reaches" (dict "policy" $policy "port" $port "kafka" true)) -}}
{{- fail (printf "settings.bootstrap_servers has %s, and networkPolicy lets no worker reach port %d: add it to networkPolicy.kafkaPorts" (trim .) $port) -}}
{{- end -}}
{{- end -}}
{{- with .Values.settings.oauth_token_url -}}
{{- $url := urlParse . -}}
{{- if eq $url.scheme "https" -}}{{- /* by http it is in the pod itself, which no policy concerns */ -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default "443" | int -}}
{{- if not (include "janela.reaches" (dict "policy" $policy "port" $port "kafka" (not $policy.kafkaTo))) -}}
{{- fail (printf "settings.oauth_token_url is %s, and networkPolicy lets no worker reach port %d there: add a rule for it to networkPolicy.egress" . $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether .policy opens .port, by the ports of Kafka or by a rule of egress; whom a rule is for is not looked at. */ -}}
{{- define "janela.reaches" -}}
{{- $port := .port -}}
{{- if .kafka -}}{{- range .policy.kafkaPorts -}}{{- if eq (int .) $port -}}yes{{- end -}}{{- end -}}{{- end -}}
{{- range .policy.egress -}}
{{- if not .ports -}}yes{{- end -}}
{{- range .ports -}}
{{- $isIn := or (not .port) (kindIs "string" .port) (eq (int .port) $port) (and (le (int .port) $port) (le $port (int .endPort))) -}}
{{- if and $isIn (eq (default "TCP" .protocol) "TCP") -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Where brokers do not answer, a stop takes four fifths of the transaction's time-out; five seconds are for the rest. */ -}}
{{- define "janela.graceSecondsMin" -}}
{{- $timeout := dig "transaction_timeout_ms" 30000 .Values.settings | int -}}
{{- add (div (add (mul $timeout 4) 4999) 5000) 5 -}}
{{- end -}}
