# The base image is pinned by the digest of its index, which all architectures share: Python 3.13.15 on Debian 13.
# To update it, run `docker buildx imagetools inspect python:3.13-slim`, and set its Digest in both FROM lines.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# The build tools stay in this stage. The locked packages change less often than the code, so they come first.
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-build.lock \
    && python -m venv /opt/turnwire \
    && /opt/turnwire/bin/python -m pip install --quiet --no-deps --require-hashes --no-build-isolation --use-pep517 -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY providers providers
COPY store store
COPY clients/python/turnwire clients/python/turnwire
COPY static static
RUN /opt/build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/turnwire/bin/python -m pip install --quiet --no-deps --no-index dist/*.whl \
    && /opt/turnwire/bin/python -m pip check \
    && /opt/turnwire/bin/python -m pip uninstall --quiet --yes pip


FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
COPY --from=builder /opt/turnwire /opt/turnwire
ENV PATH=/opt/turnwire/bin:$PATH PYTHONUNBUFFERED=1

# The SQLite file is in the working directory. Mount a volume here to keep the conversations.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin turnwire \
    && install --directory --owner=turnwire /data
USER turnwire
WORKDIR /data
VOLUME /data

# A container listens on all interfaces. Without authentication, Turnwire refuses to do so, because every client would
# be the same local user. If only you can reach the port, set this variable at the start:
#   docker run -p 127.0.0.1:8000:8000 -e TURNWIRE_INSECURE=1 turnwire
# ENV TURNWIRE_INSECURE=1

EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; s = 's' * bool(os.environ.get('TURNWIRE_CERTFILE')); r.urlopen(f'http{s}://127.0.0.1:{os.environ.get(\"PORT\", \"8000\")}/health', timeout=2, context=ssl._create_unverified_context())"]

# SIGTERM starts a drain. Set `docker stop -t` to more than TURNWIRE_DRAIN_S + 10.
CMD ["turnwire", "serve", "--host", "0.0.0.0"]
