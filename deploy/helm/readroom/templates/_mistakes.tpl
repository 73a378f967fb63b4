{{- /* What a schema cannot say: each sentence names the key at fault and what to do. */ -}}
{{- define "readroom.mistakes" -}}
{{- $components := include "readroom.components" . | fromYaml -}}
{{- if not $components -}}
{{- fail "components: all are off: set `enabled: true` for one of them" -}}
{{- end -}}
{{- range $name, $each := $components -}}
{{- $values := $each.values -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled -}}
{{- fail (printf "components.%s: `autoscaling.enabled` and `keda.enabled` are both set: two autoscalers would fight. Set one" $name) -}}
{{- end -}}
{{- if and $values.keda.enabled (not $.Values.bus.monitoringEndpoint) -}}
{{- fail (printf "bus.monitoringEndpoint is empty, and `components.%s.keda.enabled` needs it: set the monitoring address of NATS, such as nats.nats.svc:8222" $name) -}}
{{- end -}}
{{- if and $values.keda.enabled (eq $name "web") -}}
{{- fail "components.web.keda.enabled: the web hears no facts: use `components.web.autoscaling`" -}}
{{- end -}}
{{- range $scaler := list "autoscaling" "keda" -}}
{{- $scaling := get $values $scaler -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "components.%s.%s.minReplicas is above its `maxReplicas`" $name $scaler) -}}
{{- end -}}
{{- end -}}
{{- $needed := add (ceil $values.drainSeconds) (int $values.preStopSeconds) 6 -}}
{{- if lt (int $values.gracePeriodSeconds) (int $needed) -}}
{{- fail (printf "components.%s.gracePeriodSeconds is %v: a pod needs %v s to stop (`preStopSeconds`, `drainSeconds` and 6): raise it, or lower these" $name $values.gracePeriodSeconds $needed) -}}
{{- end -}}
{{- range $file, $_ := $values.secrets -}}
{{- if not (hasKey $each.files $file) -}}
{{- if hasKey $.Values.defaults.secrets $file -}}{{- else -}}
{{- fail (printf "components.%s.secrets: `%s` is no file of it: expected one of %s" $name $file (keys $each.files | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $components.ingest -}}
{{- range $edge := list "dicom" "gateways" -}}
{{- if not (get $.Values $edge).publicAddress -}}
{{- fail (printf "%s.publicAddress is empty: set the HOST:PORT that gateways at the hospitals connect to" $edge) -}}
{{- end -}}
{{- end -}}
{{- $ingest := $components.ingest.values -}}
{{- if eq .Values.storage.mode "volumes" -}}
{{- if $components.ingest.scaled -}}
{{- fail "components.ingest: an autoscaler would take pods away whose volumes hold images: turn `autoscaling` and `keda` of it off, or set `storage.mode: shared`" -}}
{{- end -}}
{{- if lt (int $ingest.replicas) (int .Values.storage.volumes) -}}
{{- fail (printf "components.ingest.replicas is %v, and storage.volumes says that %v volumes hold images: nobody would read those of the missing pods. Raise the replicas, or copy the packs and set `storage.mode: shared`" $ingest.replicas .Values.storage.volumes) -}}
{{- end -}}
{{- if gt (int $ingest.replicas) (int .Values.storage.volumes) -}}
{{- fail (printf "storage.volumes is %v, and components.ingest.replicas is %v: set storage.volumes to it, for good" .Values.storage.volumes $ingest.replicas) -}}
{{- end -}}
{{- else if not .Values.storage.existingClaim -}}
{{- fail "storage.existingClaim is empty: with `storage.mode: shared` name a claim (ReadWriteMany)" -}}
{{- end -}}
{{- end -}}
{{- if $components.notify -}}
{{- range $key, $value := dict "mail.address" .Values.mail.address "mail.from" .Values.mail.from "mail.linkBase" .Values.mail.linkBase "texts.url" .Values.texts.url -}}
{{- if not $value -}}
{{- fail (printf "%s is empty: notify needs it. Set it, or `components.notify.enabled: false`" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $components.web -}}
{{- if not .Values.origin -}}
{{- fail "origin is empty: set the address of the pages in browsers, such as https://readroom.example.org" -}}
{{- end -}}
{{- if and .Values.viewerOrigin (eq (urlParse .Values.viewerOrigin).hostname (urlParse .Values.origin).hostname) -}}
{{- fail "viewerOrigin has the host of origin: give the viewer a host name of its own, such as viewer.readroom.example.org" -}}
{{- end -}}
{{- $web := $components.web.values -}}
{{- if not (and $web.settings.OIDC_ISSUER $web.settings.OIDC_CLIENT_ID (hasKey $web.secrets "oidc-client-secret")) -}}
{{- fail "components.web: nobody could sign in: set `settings.OIDC_ISSUER`, `settings.OIDC_CLIENT_ID` and `secrets.oidc-client-secret`" -}}
{{- end -}}
{{- else if or .Values.ingress.enabled .Values.httpRoute.enabled -}}
{{- fail "components.web.enabled is false: turn `ingress.enabled` and `httpRoute.enabled` off, for there are no pages" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway" -}}
{{- end -}}
{{- if and .Values.tlsRoute.enabled (or (not .Values.tlsRoute.parentRefs) (not .Values.tlsRoute.hostnames)) -}}
{{- fail "tlsRoute.parentRefs or tlsRoute.hostnames is empty: name the Gateway, and what gateways ask for" -}}
{{- end -}}
{{- end }}
