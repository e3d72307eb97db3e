{{- define "tollhouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tollhouse.fullname" -}}
{{- $name := include "tollhouse.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 57 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 57 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 57 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tollhouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tollhouse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tollhouse.labels" -}}
{{ include "tollhouse.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tollhouse.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tollhouse.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tollhouse.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* A value of TOML. toToml of Helm would write 30 as 30.0: numbers of values are floats. Strings of JSON are strings of TOML. */}}
{{- define "tollhouse.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $pairs = append $pairs (printf "%s = %s" ($key | toJson) (include "tollhouse.toml.value" $value)) -}}
{{- end -}}
{{- end -}}
{{- printf "{ %s }" (join ", " $pairs) -}}
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (include "tollhouse.toml.value" .) -}}
{{- end -}}
{{- printf "[%s]" (join ", " $items) -}}
{{- else if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{- int64 . -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- define "tollhouse.toml" -}}
{{- range $table, $keys := .Values.config -}}
{{- if kindIs "map" $keys }}
[{{ $table | toJson }}]
{{- range $key, $value := $keys }}
{{- if not (kindIs "invalid" $value) }}
{{ $key | toJson }} = {{ include "tollhouse.toml.value" $value }}
{{- end }}
{{- end }}
{{ else if kindIs "slice" $keys }}
{{- range $keys }}
[[{{ $table | toJson }}]]
{{- range $key, $value := . }}
{{ $key | toJson }} = {{ include "tollhouse.toml.value" $value }}
{{- end }}
{{ end }}
{{- else if not (kindIs "invalid" $keys) }}
{{- fail (printf "config.%s has to be a table (a map), as in tollhouse.toml" $table) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The listeners that other pods reach, as {"proxy": 8080, "admin": 9090}. */}}
{{- define "tollhouse.ports" -}}
{{- $ports := dict -}}
{{- range $name := list "proxy" "base_url" "transparent" "admin" -}}
{{- $address := dig $name "off" ($.Values.config.listen | default dict) -}}
{{- if ne $address "off" -}}
{{- if or (hasPrefix "127." $address) (hasPrefix "localhost:" $address) (hasPrefix "[::1]" $address) -}}
{{- fail (printf "config.listen.%s is %s, which no other pod and no probe reaches: write 0.0.0.0 or *" $name $address) -}}
{{- end -}}
{{- $_ := set $ports ($name | replace "_" "-") (regexFind "[0-9]+$" $address | atoi) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $ports "admin") -}}
{{- fail "config.listen.admin is off: the probes need it. Write 0.0.0.0:9090" -}}
{{- end -}}
{{- if eq (len $ports) 1 -}}
{{- fail "config.listen has no listener for workloads: give proxy, base_url or transparent" -}}
{{- end -}}
{{- $ports | toJson -}}
{{- end -}}

{{- define "tollhouse.adminScheme" -}}
{{- if dig "admin" "tls" "" .Values.config -}}https{{- else -}}http{{- end -}}
{{- end -}}
