# BAiO without the embedded model:   docker build --tag baio .
# with the embedded model:           docker build --tag baio:with-model --target with-model .
# docs/operations.md, "Container", says how to run it. What the steps do is in deploy/build.sh.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1
COPY requirements.txt requirements-metrics.txt ./
COPY deploy/build.sh deploy/
RUN sh deploy/build.sh packages

FROM packages AS built
COPY pyproject.toml README.md LICENSE ./
COPY alembic alembic
COPY src src
RUN sh deploy/build.sh baio

FROM built AS built-with-model
COPY requirements-local.txt ./
RUN sh deploy/build.sh model && sh deploy/build.sh finish

FROM built AS finished
RUN sh deploy/build.sh finish

FROM ${PYTHON_IMAGE} AS base
COPY deploy/build.sh /tmp/
RUN sh /tmp/build.sh data && rm /tmp/build.sh
ENV PATH=/opt/baio/bin:$PATH HOME=/data BAIO_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8000
STOPSIGNAL SIGTERM
# No proxy of the environment is asked, as urllib would. While BAiO drains it is not ready, and it ends by itself.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["/opt/baio/bin/python", "-I", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=8); c.request('GET', '/health/ready'); exit(c.getresponse().status != 200)"]
# Not through a shell: BAiO itself is to receive the signal to stop.
ENTRYPOINT ["/opt/baio/bin/baio"]
CMD ["runserver", "--host", "0.0.0.0"]

FROM base AS with-model
COPY --from=built-with-model /opt/baio /opt/baio
ENV BAIO_LOCAL_MODEL=/opt/baio/models/model.gguf

FROM base AS baio
COPY --from=finished /opt/baio /opt/baio
ENV BAIO_LOCAL_MODEL=off
