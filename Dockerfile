# One image for both stages: the environment's interpreter is a link to /usr/local/bin/python3.13. The digest is that of the index of
# all platforms. Take a newer one with its tag: docker build --build-arg PYTHON_IMAGE=python:3.13.N-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.13.16-slim-trixie@sha256:bf44cdfcb76cd3b41e879bc058fc37ec5872002ccfde7fcb765e218cde0cd79c
FROM ${PYTHON_IMAGE} AS build
# The commands of this stage are those of "From source, by hashes" in docs/deploy.md, word for word.
WORKDIR /src
# uv, of the version that wrote uv.lock, and the build backend: by their hashes, as all that the lock names.
COPY build-requirements.txt ./
RUN python3.13 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r build-requirements.txt
ENV PATH=/opt/build/bin:$PATH \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/tollhouse \
    UV_PYTHON=/usr/local/bin/python3.13 \
    UV_PYTHON_DOWNLOADS=never
# The dependencies alone, so that a change of ours does not fetch them again.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --no-install-project
COPY README.md LICENSE ./
COPY addons addons
# Without isolation, in which a build would fetch its backend anew and by no hash.
RUN hatchling build --target wheel --directory /opt/build/wheels \
 && uv pip install --python /opt/tollhouse/bin/python --no-deps --no-index /opt/build/wheels/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Tollhouse" \
      org.opencontainers.image.licenses="Apache-2.0"
# 65532 is "nonroot" in the common minimal images; a number, so that Kubernetes can check runAsNonRoot.
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/tollhouse
COPY --from=build /opt/tollhouse /opt/tollhouse
ENV PATH=/opt/tollhouse/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TOLLHOUSE_CONFIG=/etc/tollhouse/tollhouse.toml
# [state] directory = "/var/lib/tollhouse"; the configuration itself may be mounted read-only.
WORKDIR /var/lib/tollhouse
VOLUME ["/var/lib/tollhouse"]
USER 65532:65532
EXPOSE 8080 8000 9090
# Nothing at run time needs a shell. [listen] admin must stay on port 9090, on loopback or 0.0.0.0.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 \
    CMD ["/opt/tollhouse/bin/python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9090, timeout=3); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
# It needs no capability and writes to its volume alone:
# docker run --read-only --cap-drop ALL --security-opt no-new-privileges ...
# SIGTERM drains for up to [limits] drain_s = 30 s: stop it with `docker stop --time 40`, or a grace period of 40 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/tollhouse/bin/tollhouse"]
CMD ["run"]
