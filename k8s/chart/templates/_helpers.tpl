{{- define "saras.labels" -}}
app.kubernetes.io/name: {{ .room }}
app.kubernetes.io/component: {{ .command }}
{{- end }}

{{- define "saras.metadata" -}}
namespace: {{ .root.Release.Namespace }}
labels:
  app.kubernetes.io/part-of: saras
{{- end }}

{{/* A room is on this cluster: everywhere, or only with the kind of broker that it names. */}}
{{- define "saras.present" -}}
{{- if eq (.spec.only | default .root.Values.broker.kind) .root.Values.broker.kind }}yes{{ end }}
{{- end }}

{{- define "saras.kind" -}}
{{- if eq . "api" }}api{{ else }}background{{ end }}
{{- end }}

{{- define "saras.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}saras/{{ .room }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* How many copies, with the cluster's own maximum. */}}
{{- define "saras.capped" -}}
{{- $cap := int .root.Values.maximumReplicas -}}
{{- if and (gt $cap 0) (gt (int .wanted) $cap) }}{{ $cap }}{{ else }}{{ int .wanted }}{{ end }}
{{- end }}

{{- define "saras.replicas" -}}
{{- $default := index .root.Values.defaults (include "saras.kind" .command) -}}
{{- $wanted := .process.replicas | default $default.replicas -}}
{{- with .process.autoscaling }}{{ $wanted = .min }}{{ end -}}
{{- include "saras.capped" (dict "root" .root "wanted" $wanted) }}
{{- end }}

{{/* What decides the number of copies: keda, hpa or nothing (empty). */}}
{{- define "saras.scaler" -}}
{{- if and .process.autoscaling .root.Values.autoscaling (ne (int .root.Values.maximumReplicas) 1) }}
{{- if and .process.queue .root.Values.keda.enabled }}keda{{ else }}hpa{{ end }}
{{- end }}
{{- end }}

{{/* Settings that all rooms read; the peers' addresses come from the list of rooms. */}}
{{- define "saras.sharedSettings" -}}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- range $room, $spec := .Values.rooms }}
{{- if not (or $spec.only (eq $room "api-gateway")) }}
{{ $room | upper | replace "-" "_" }}_URL: http://{{ $room }}:{{ $spec.port }}
{{- end }}
{{- end }}
JWKS_URL: http://user-service:{{ (index .Values.rooms "user-service").port }}/.well-known/jwks.json
{{- end }}

{{/* A room's own settings. */}}
{{- define "saras.roomSettings" -}}
{{ .spec.prefix }}HOST: 0.0.0.0
{{ .spec.prefix }}PORT: {{ .spec.port | quote }}
{{- range $name, $value := .spec.settings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- if eq .room "trade-executor" }}
EXECUTOR_KITE_API_KEY: {{ .root.Values.broker.apiKey }}
{{- if eq .root.Values.broker.kind "simulator" }}
EXECUTOR_KITE_ROOT: http://kite-simulator:{{ (index .root.Values.rooms "kite-simulator").port }}
EXECUTOR_SIMULATOR_HOSTS: '["kite-simulator"]'
{{- else }}
EXECUTOR_KITE_ROOT: {{ .root.Values.broker.kiteRoot }}
{{- end }}
{{- end }}
{{- if eq .room "notification-service" }}
NOTIFICATION_PUBLIC_URL: https://{{ .root.Values.ingress.host }}
NOTIFICATION_WEB_URL: https://{{ .root.Values.ingress.host }}
{{- end }}
{{- if eq .room "kite-simulator" }}
KITE_SIM_API_KEY: {{ .root.Values.broker.apiKey }}
KITE_SIM_REDIRECT_URL: https://{{ .root.Values.ingress.host }}/api/v1/broker/callback
{{- end }}
{{- end }}

{{- define "saras.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "saras.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Keys of the room's Secret that one process gets, as files below /run/saras. */}}
{{- define "saras.secretKeys" -}}
{{- $keys := list -}}
{{- if has "database" .process.uses }}{{ $keys = append $keys (printf "%sdatabase_url" (lower .spec.prefix)) }}{{ end -}}
{{- if has "bus" .process.uses }}{{ $keys = append $keys "bus_url" }}{{ end -}}
{{- if has "cache" .process.uses }}{{ $keys = append $keys "redis_url" }}{{ end -}}
{{- range .process.secrets }}{{ $keys = append $keys (lower .) }}{{ end -}}
{{- if .process.verifies }}{{ $keys = append $keys "rooms.jwks.json" }}{{ end -}}
{{- if .process.signs }}{{ $keys = append $keys "service.pem" }}{{ end -}}
{{- range .process.secretFiles }}{{ $keys = append $keys . }}{{ end -}}
{{- toYaml (uniq $keys) }}
{{- end }}

{{- define "saras.secretVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .room }}
          items:
            {{- range .keys }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      {{- with .optional }}
      - secret:
          name: {{ $.room }}
          optional: true
          items:
            {{- range . }}
            - {key: {{ lower . }}, path: {{ lower . }}}
            {{- end }}
      {{- end }}
{{- end }}

{{/* Variables that belong to one process alone. */}}
{{- define "saras.variables" -}}
- name: SECRETS_DIR
  value: /run/saras
{{- if ne .command "api" }}
- name: STATUS_PORT
  value: "9100"
{{- end }}
{{- if .process.children }}
- name: PROMETHEUS_MULTIPROC_DIR
  value: /metrics
{{- end }}
{{- if has "database" .process.uses }}
{{- $default := index .root.Values.defaults (include "saras.kind" .command) }}
- name: {{ .spec.prefix }}DATABASE_POOL_SIZE
  value: {{ .process.pool | default $default.pool | quote }}
{{- end }}
{{- if .process.verifies }}
- name: SERVICE_KEYS_FILE
  value: /run/saras/rooms.jwks.json
{{- end }}
{{- if .process.signs }}
- name: {{ .spec.prefix }}SERVICE_KEY_FILE
  value: /run/saras/service.pem
{{- end }}
{{- range $name, $key := .process.secretFiles }}
- name: {{ $name }}
  value: /run/saras/{{ $key }}
{{- end }}
{{- range $name, $value := .process.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
