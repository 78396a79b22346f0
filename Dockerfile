# syntax=docker/dockerfile:1

# to pin it: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# without pip, which nothing needs at run time
RUN python -m venv --without-pip /opt/passoproxy
COPY pyproject.toml README.md LICENSE ./
COPY passoproxy ./passoproxy
# with bytecode: whoever runs it cannot write any, and would compile everything at each start
RUN pip --python /opt/passoproxy/bin/python install --no-cache-dir '.[otel,redis]'

FROM ${BASE}
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/passoproxy/bin:$PATH \
    STATE_DIRECTORY=/var/lib/passoproxy \
    CACHE_DIRECTORY=/var/cache/passoproxy
COPY --from=build /opt/passoproxy /opt/passoproxy
# any user id may run it, with a volume of its own
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/passoproxy /var/cache/passoproxy \
    && install -d -m 0755 /etc/passoproxy
USER 10001:10001
# the pair outlives the container only here
VOLUME ["/var/lib/passoproxy"]
EXPOSE 8610 8611
STOPSIGNAL SIGTERM
# it lives, with a pair or without; where admin.listen is another port, this is to be another too
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8611, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["passoproxy"]
CMD ["serve"]
