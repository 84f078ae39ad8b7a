# The caching proxy:
#   docker build -t nearcache .
#   docker run -p 8080:8080 -v vectors:/data nearcache --upstream https://api.openai.com/v1
# Callers' keys reach it as they are sent: speak TLS (--tls-certificate, --tls-key), or put it
# behind something that does.

FROM python:3.11-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY src src
RUN python -m venv /opt/nearcache \
 && /opt/nearcache/bin/pip install --no-cache-dir '.[proxy,redis]'

FROM python:3.11-slim
COPY --from=build /opt/nearcache /opt/nearcache
RUN useradd --system --uid 10001 --home-dir /data --create-home nearcache
USER nearcache
WORKDIR /data
VOLUME /data
EXPOSE 8080
ENV PYTHONUNBUFFERED=1 NEARCACHE_STORE=sqlite:////data/vectors.db
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/opt/nearcache/bin/python", "-c", \
  "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/nearcache/bin/nearcache", "serve", "--host", "0.0.0.0", "--port", "8080"]
