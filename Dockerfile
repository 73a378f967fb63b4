# The one image: services, web, migration and gateway. BASE has Python 3.11 or newer with venv; a release names it by digest.
#
#   make viewer
#   podman build --timestamp 0 --build-arg BASE=docker.io/library/python:3.12-slim@sha256:… --tag readroom .
#
# Built twice, the digest is the same. Nothing in it compiles, and no server is embedded: see pyproject.toml, `embedded`.
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS build
WORKDIR /app
COPY .ci/uv.txt pyproject.toml uv.lock ./
RUN python3 -m venv /uv && /uv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement uv.txt
RUN python3 -m venv --without-pip /opt/readroom \
    && UV_PROJECT_ENVIRONMENT=/opt/readroom UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 \
       /uv/bin/uv sync --frozen --no-dev --no-install-project \
    && /uv/bin/uv export --frozen --no-dev --format cyclonedx1.5 --quiet --output-file /opt/readroom/sbom.cdx.json
# When it was made and a random number are no part of it.
RUN python3 -c 'import json, pathlib; p = pathlib.Path("/opt/readroom/sbom.cdx.json"); s = json.loads(p.read_text()); del s["serialNumber"], s["metadata"]["timestamp"]; p.write_text(json.dumps(s, indent=2, sort_keys=True))'
RUN rm uv.txt pyproject.toml uv.lock
COPY kernel kernel
COPY wire wire
COPY plumbing plumbing
COPY services services
COPY web web
COPY ui ui
# OHIF: `make viewer` fetches it before.
COPY viewer viewer
COPY gateway gateway
COPY readroom readroom
# Sources never change here, so nothing looks whether they did: a start reads what is compiled, also from a read-only root.
RUN PYTHONHASHSEED=0 /opt/readroom/bin/python -m compileall -q --invalidation-mode unchecked-hash /app /opt/readroom/lib \
    && find / -xdev -name '*.lock' -path '/opt/readroom/*' -delete

FROM ${BASE}
LABEL org.opencontainers.image.title="readroom" org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/readroom/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/readroom /opt/readroom
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "services", "--help"]
