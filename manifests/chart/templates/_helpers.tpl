{{- define "crier.name" -}}
{{- default "metallb" .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "crier.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "crier.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "crier.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "crier.gossipSecret" -}}
{{- default (printf "%s-memberlist" (include "crier.fullname" .)) .Values.speaker.secretName }}
{{- end }}

{{- define "crier.selectorLabels" -}}
app.kubernetes.io/name: {{ include "crier.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "crier.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "crier.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* (dict "root" $ "component" "speaker") */}}
{{- define "crier.account" -}}
{{- $told := (index .root.Values .component).serviceAccount }}
{{- if $told.create }}
{{- default (printf "%s-%s" (include "crier.fullname" .root) .component) $told.name }}
{{- else }}
{{- default "default" $told.name }}
{{- end }}
{{- end }}

{{- define "crier.image" -}}
{{- $told := (index .root.Values .component).image }}
image: {{ printf "%s:%s" $told.repository (default .root.Chart.AppVersion $told.tag) | quote }}
{{- with $told.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{- define "crier.flags" -}}
- --port={{ .root.Values.prometheus.metricsPort }}
{{- with .root.Values.prometheus.plainMetricsPort }}
- --plain-metrics-port={{ . }}
{{- end }}
- --log-level={{ (index .root.Values .component).logLevel }}
- --health-probe-port={{ (index .root.Values .component).livenessProbe.port }}
{{- with .root.Values.loadBalancerClass }}
- --lb-class={{ . }}
{{- end }}
{{- with .root.Values.tls.minVersion }}
- --tls-min-version={{ . }}
{{- end }}
{{- with .root.Values.tls.cipherSuites }}
- --tls-cipher-suites={{ . }}
{{- end }}
{{- with .root.Values.tls.curvePreferences }}
- --tls-curve-preferences={{ . }}
{{- end }}
{{- if index .root.Values.tls (printf "%sMetricsTLSSecret" .component) }}
- --metrics-cert-dir=/etc/metrics
{{- end }}
{{- end }}

{{/* (dict "probe" .Values.speaker.livenessProbe "path" "/healthz" "host" "127.0.0.1") */}}
{{- define "crier.probe" -}}
httpGet:
  {{- with .host }}
  host: {{ . }}
  {{- end }}
  path: {{ .path }}
  port: {{ .probe.port }}
initialDelaySeconds: {{ .probe.initialDelaySeconds }}
periodSeconds: {{ .probe.periodSeconds }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
successThreshold: {{ .probe.successThreshold }}
failureThreshold: {{ .probe.failureThreshold }}
{{- end }}

{{/* What an operator may say about a pod. */}}
{{- define "crier.placement" -}}
{{- $told := index .root.Values .component }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with $told.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $told.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $told.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $told.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "crier.podMetadata" -}}
{{- $told := index .root.Values .component }}
labels:
  {{- include "crier.selectorLabels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with $told.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or $told.podAnnotations .root.Values.prometheus.scrapeAnnotations }}
annotations:
  {{- with .root.Values.prometheus }}
  {{- if .scrapeAnnotations }}
  prometheus.io/scrape: "true"
  prometheus.io/scheme: {{ ternary "http" "https" (gt (int .plainMetricsPort) 0) }}
  prometheus.io/port: {{ default .metricsPort .plainMetricsPort | quote }}
  {{- end }}
  {{- end }}
  {{- with $told.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "told" .Values.prometheus.podMonitor) */}}
{{- define "crier.monitorMetadata" -}}
labels:
  {{- include "crier.labels" .root | nindent 2 }}
  {{- with .told.additionalLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .told.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* (dict "monitor" .Values.prometheus.podMonitor "tlsConfig" (dict ...)) */}}
{{- define "crier.scrape" -}}
port: metricshttps
path: /metrics
scheme: https
bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- with .tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
