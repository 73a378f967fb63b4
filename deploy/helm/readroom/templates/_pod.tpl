{{- /* The template of a component's pods. Called with root and each. */ -}}
{{- define "readroom.pod" -}}
{{- $root := .root -}}
{{- $each := .each -}}
{{- $values := $each.values -}}
metadata:
  labels:
    {{- include "readroom.labels" (dict "root" $root "component" $each.name) | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "readroom.everyPod" $root | nindent 2 }}
  serviceAccountName: {{ $values.serviceAccountName }}
  terminationGracePeriodSeconds: {{ $values.gracePeriodSeconds }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.spread.topologyKeys }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "readroom.selector" (dict "root" $root "component" $each.name) | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $each.name }}
      {{- include "readroom.container" $root | nindent 6 }}
      command: [python, -m, {{ $each.module }}{{ if eq $each.module "services" }}, {{ $each.name }}{{ end }}]
      env:
        {{- include "readroom.env" . | nindent 8 }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range $edge, $port := $each.ports }}
        - name: {{ $edge }}
          containerPort: {{ $port.port }}
          protocol: TCP
        {{- end }}
      startupProbe:
        httpGet: {path: /startupz, port: http}
        periodSeconds: 2
        failureThreshold: 90
      livenessProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if $values.preStopSeconds }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ $values.preStopSeconds | quote }}]
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: files, mountPath: /run/readroom, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if eq $each.name "ingest" }}
        - {name: packs, mountPath: /var/lib/readroom}
        {{- end }}
        {{- if $values.anchorClaim }}
        - {name: anchors, mountPath: /var/lib/anchors, subPathExpr: $(POD_NAME)}
        {{- else if ne $each.name "ingest" }}
        - {name: anchors, mountPath: /var/lib/anchors}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: files
      projected:
        defaultMode: 0440
        sources:
          {{- range $file, $known := $each.files }}
          {{- if or (not $known.optional) (hasKey $values.secrets $file) }}
          {{- $secret := include "readroom.secret" (dict "root" $root "each" $each "file" $file) | fromYaml }}
          - secret:
              name: {{ $secret.name }}
              items: [{key: {{ $secret.key | quote }}, path: {{ $file }}}]
          {{- end }}
          {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- if $values.anchorClaim }}
    - name: anchors
      persistentVolumeClaim: {claimName: {{ $values.anchorClaim }}}
    {{- else if ne $each.name "ingest" }}
    - name: anchors
      emptyDir: {sizeLimit: 64Mi}
    {{- end }}
    {{- if and (eq $each.name "ingest") (eq $root.Values.storage.mode "shared") }}
    - name: packs
      persistentVolumeClaim: {claimName: {{ $root.Values.storage.existingClaim }}}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* What the process is told: where it listens, whom it asks, which files it reads, and what the values say. */ -}}
{{- define "readroom.env" -}}
{{- $root := .root -}}
{{- $each := .each -}}
{{- $values := $each.values -}}
{{- $full := include "readroom.fullname" $root -}}
{{- $told := dict "DRAIN_S" $values.drainSeconds -}}
{{- range $edge, $port := $each.ports -}}
{{- $_ := set $told $port.setting (printf "%s:%v" $root.Values.listenHost $port.port) -}}
{{- end -}}
{{- range $each.peers -}}
{{- $_ := set $told (printf "%s_ADDRESS" (upper .)) (printf "%s-%s.%s.svc:8443" $full . $root.Release.Namespace) -}}
{{- end -}}
{{- range $file, $known := $each.files -}}
{{- if or (not $known.optional) (hasKey $values.secrets $file) -}}
{{- $_ := set $told $known.setting (printf "/run/readroom/%s" $file) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $told "AUDIT_ANCHOR_FILE" "/var/lib/anchors/audit.anchor" -}}
{{- with $root.Values.telemetry.otlpEndpoint }}{{ $_ := set $told "OTLP_ENDPOINT" . }}{{ end -}}
{{- if eq $each.name "ingest" -}}
{{- $_ := set $told "PACK_DIRECTORY" "/var/lib/readroom/packs" -}}
{{- if not $values.anchorClaim }}{{ $_ := set $told "AUDIT_ANCHOR_FILE" "/var/lib/readroom/audit-$(POD_NAME).anchor" }}{{ end -}}
{{- $_ := set $told "PEER_ADDRESS" (printf "$(POD_NAME).%s-ingest.%s.svc:8443" $full $root.Release.Namespace) -}}
{{- $_ := set $told "DICOM_PUBLIC_ADDRESS" $root.Values.dicom.publicAddress -}}
{{- $_ := set $told "GATEWAY_PUBLIC_ADDRESS" $root.Values.gateways.publicAddress -}}
{{- else if eq $each.name "notify" -}}
{{- $_ := set $told "SMTP_ADDRESS" $root.Values.mail.address -}}
{{- $_ := set $told "MAIL_FROM" $root.Values.mail.from -}}
{{- $_ := set $told "LINK_BASE" $root.Values.mail.linkBase -}}
{{- $_ := set $told "TEXT_URL" $root.Values.texts.url -}}
{{- else if eq $each.name "web" -}}
{{- $_ := set $told "ORIGIN" $root.Values.origin -}}
{{- with $root.Values.viewerOrigin -}}
{{- $_ := set $told "VIEWER_ORIGIN" . -}}
{{- $_ := set $told "DICOMWEB_ADDRESS" (printf "%s-ingest.%s.svc:8445" $full $root.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- include "readroom.overlay" (dict "base" $told "over" $values.settings) -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- if eq $each.name "web" }}
{{- $probes := list }}
{{- range $name, $other := include "readroom.components" $root | fromYaml }}
{{- $probes = append $probes (printf "%s=%s-%s.%s.svc:%v" $name $full $name $root.Release.Namespace $other.ports.http.port) }}
{{- end }}
# For `python -m readroom status`.
- name: READROOM_PROBES
  value: {{ join "," $probes | quote }}
{{- end }}
{{- range $setting, $value := $told }}
- name: READROOM_{{ upper $each.name }}_{{ $setting }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}
