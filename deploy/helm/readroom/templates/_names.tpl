{{- define "readroom.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- /* What selects pods: never changes. Called with the root and the component. */ -}}
{{- define "readroom.selector" -}}
app.kubernetes.io/name: readroom
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "readroom.labels" -}}
{{ include "readroom.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "readroom.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{- /* Lays the map `over` onto the map `base`, in place. Unlike mergeOverwrite it takes false, 0 and "" too. */ -}}
{{- define "readroom.overlay" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
{{- include "readroom.overlay" (dict "base" (get $base $key) "over" $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* All components that run, as YAML: by name what files/components.yaml says of it, and its values as `values`. */ -}}
{{- define "readroom.components" -}}
{{- $table := .Files.Get "files/components.yaml" | fromYaml -}}
{{- $running := dict -}}
{{- range $name, $own := $table.components -}}
{{- $values := deepCopy $.Values.defaults -}}
{{- include "readroom.overlay" (dict "base" $values "over" (get $.Values.components $name)) -}}
{{- if $values.enabled -}}
{{- $each := deepCopy $table.everybody -}}
{{- include "readroom.overlay" (dict "base" $each "over" $own) -}}
{{- $_ := set $each "values" $values -}}
{{- $_ := set $each "name" $name -}}
{{- $_ := set $each "scaled" (or $values.autoscaling.enabled $values.keda.enabled) -}}
{{- $least := ternary (ternary $values.autoscaling.minReplicas $values.keda.minReplicas $values.autoscaling.enabled) $values.replicas $each.scaled -}}
{{- $_ := set $each "least" $least -}}
{{- $_ := set $running $name $each -}}
{{- end -}}
{{- end -}}
{{- toYaml $running -}}
{{- end }}

{{- /* The Secret of a file: what the values say of it, else what the table does. Called with root, each, file. */ -}}
{{- define "readroom.secret" -}}
{{- $known := get .each.files .file -}}
{{- $said := default dict (get .each.values.secrets .file) -}}
{{- $usual := printf "%s-%s" (include "readroom.fullname" .root) (replace "{component}" .each.name $known.secret) -}}
{{- if and (eq $known.secret "{component}") .each.values.existingSecret -}}
{{- $usual = .each.values.existingSecret -}}
{{- end -}}
name: {{ default $usual $said.name }}
key: {{ default (default .file $known.key) $said.key }}
{{- end }}

{{- define "readroom.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "readroom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What every pod of ours has in common, jobs and tests included. */ -}}
{{- define "readroom.everyPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "readroom.podSecurity" . | nindent 2 }}
{{- end }}

{{- /* The first lines of every container. Called with root. */ -}}
{{- define "readroom.container" -}}
image: {{ include "readroom.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "readroom.containerSecurity" . | nindent 2 }}
{{- end }}
