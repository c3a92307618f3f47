"""Settings: one file, read from the environment. `ENVIRONMENT` is the documented table (docs/settings.md); a bad value is
one clear line, and a production desk without its secrets refuses to start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import parse_qs, unquote, urlsplit

from backoffice.console.unfold import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent
T = TypeVar("T")


@dataclass(frozen=True)
class Variable:
    """One environment variable: what it is for, its default, and whether its value is a secret."""

    name: str
    default: str | None
    meaning: str
    secret: bool = False


ENVIRONMENT: dict[str, Variable] = {}


def _refuse(line: str) -> None:
    """Stop before anything is half started: one line, no traceback, exit code 2 (usage)."""
    sys.stderr.write(f"staydesk: {line}\n")
    raise SystemExit(2)


@overload
def env(name: str, default: str | None, meaning: str, *, secret: bool = False) -> str: ...
@overload
def env(name: str, default: str | None, meaning: str, parse: Callable[[str], T], *, secret: bool = False) -> T: ...
def env(
    name: str, default: str | None, meaning: str, parse: Callable[[str], Any] = str, *, secret: bool = False
) -> Any:
    ENVIRONMENT[name] = Variable(name, default, meaning, secret)
    text = os.environ.get(name, "")
    if text == "":
        text = default if default is not None else ""
    try:
        return parse(text)
    except ValueError as error:
        shown = "(hidden)" if secret else repr(text)
        _refuse(f"{name}={shown} is not usable: {error}. See docs/settings.md.")
        raise


def _flag(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    try:
        return values[text.strip().lower()]
    except KeyError:
        raise ValueError("write 1 or 0") from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise ValueError("write postgresql://user:password@host:port/name")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return {
        "ENGINE": "backoffice.core.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or "") or query.pop("host", ""),
        "PORT": str(parts.port or query.pop("port", "") or ""),
        "OPTIONS": query,
    }


def _redis(url: str) -> str:
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("write redis://host:port/0")
    return url


def _address(url: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("write http://host:port or https://host")
    return url.rstrip("/")


DEBUG = env("DEBUG", "0", "1 on a developer's desk: insecure cookies over http, the demo, the sandbox.", _flag)
SECRET_KEY = env("SECRET_KEY", None, "Signs sessions and tokens; at least 50 random characters.", secret=True)
ALLOWED_HOSTS = env("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", "Host names that are answered, by comma.", _words)
SITE_URL = env("SITE_URL", "http://127.0.0.1:8000", "The desk's own address, for links in e-mail.", _address)
HOME = Path(env("STAYDESK_HOME", str(BASE_DIR / ".staydesk"), "Where the desk keeps state that is not in a database."))

if not SECRET_KEY:
    if not DEBUG:
        _refuse("SECRET_KEY is missing: a production desk does not start without it. See docs/settings.md.")
    SECRET_KEY = "insecure-developer-key-" + "x" * 40
elif not DEBUG and len(SECRET_KEY) < 32:
    _refuse("SECRET_KEY is too short for production: use 50 random characters. See docs/settings.md.")

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **env(
            "DATABASE_URL",
            "postgresql://staydesk@127.0.0.1:5432/staydesk",
            "PostgreSQL 15 or newer.",
            _database,
            secret=True,
        ),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        "TEST": {"TEMPLATE": "template0"},
    }
}
REDIS_URL = env("REDIS_URL", "redis://127.0.0.1:6379/0", "Cache, sessions, throttles and broker.", _redis, secret=True)

STRIPE_API_KEY = env("STRIPE_API_KEY", "sk_test_sandbox", "The provider's secret key.", secret=True)
STRIPE_API_BASE = env(
    "STRIPE_API_BASE", "https://api.stripe.com", "The provider's address, or the sandbox's.", _address
)
STRIPE_WEBHOOK_SECRETS = env(
    "STRIPE_WEBHOOK_SECRET",
    "",
    "Signing secret of the webhook endpoint; two by comma while rotating.",
    _words,
    secret=True,
)
STRIPE_CONNECT_WEBHOOK_SECRETS = env(
    "STRIPE_CONNECT_WEBHOOK_SECRET",
    "",
    "Signing secret of the endpoint for hosts' connected accounts; two by comma while rotating.",
    _words,
    secret=True,
)
STRIPE_READ_SECONDS = env("STRIPE_READ_SECONDS", "20", "How long an answer of the provider may take.", float)
STRIPE_LIVE_BASE = "https://api.stripe.com"
if STRIPE_API_KEY.startswith(("sk_live_", "rk_live_")) and STRIPE_API_BASE != STRIPE_LIVE_BASE:
    _refuse("STRIPE_API_KEY is a live key but STRIPE_API_BASE is not Stripe's: live money never goes elsewhere.")
if not DEBUG and STRIPE_API_BASE != STRIPE_LIVE_BASE:
    _refuse("STRIPE_API_BASE is not Stripe's while DEBUG is off: set DEBUG=1 for a desk with the sandbox.")
SANDBOXED = STRIPE_API_BASE != STRIPE_LIVE_BASE

EMAIL_KIND = env("EMAIL", "file", "Where e-mail goes: console, file (STAYDESK_HOME/mail) or smtp.")
if EMAIL_KIND not in {"console", "file", "smtp"}:
    _refuse(f"EMAIL={EMAIL_KIND!r} is not usable: write console, file or smtp. See docs/settings.md.")
EMAIL_BACKEND = {
    "console": "django.core.mail.backends.console.EmailBackend",
    "file": "django.core.mail.backends.filebased.EmailBackend",
    "smtp": "django.core.mail.backends.smtp.EmailBackend",
}[EMAIL_KIND]
EMAIL_FILE_PATH = HOME / "mail"
EMAIL_TIMEOUT = 10  # seconds; a silent mail server must not hold a worker
DEFAULT_FROM_EMAIL = env("EMAIL_FROM", "Staydesk <desk@staydesk.example>", "Sender of the desk's e-mail.")
EMAIL_HOST = env("EMAIL_HOST", "localhost", "SMTP server, with EMAIL=smtp.")
EMAIL_PORT = env("EMAIL_PORT", "25", "SMTP port, with EMAIL=smtp.", int)

AUDIT_ANCHORS = Path(
    env("AUDIT_ANCHORS", str(HOME / "anchors"), "Directory outside the database for the audit log's roots.")
)
AUDIT_KEY = env("AUDIT_KEY", SECRET_KEY, "Keys the digests of personal fields in the audit log.", secret=True)

# A desk whose payments are simulated may move its clock; one that handles real money never may.
VIRTUAL_CLOCK = SANDBOXED and DEBUG

INSTALLED_APPS = [
    "backoffice.console.apps.ConsoleConfig",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.import_export",
    "backoffice.console.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "import_export",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "backoffice.core.apps.CoreConfig",
    "backoffice.audit.apps.AuditConfig",
    "backoffice.rulebook.apps.RulebookConfig",
    "backoffice.jobs.apps.JobsConfig",
    "backoffice.notifications.apps.NotificationsConfig",
    "backoffice.people.apps.PeopleConfig",
    "backoffice.ledger.apps.LedgerConfig",
    "backoffice.listings.apps.ListingsConfig",
    "backoffice.bookings.apps.BookingsConfig",
    "backoffice.payments.apps.PaymentsConfig",
    "backoffice.payouts.apps.PayoutsConfig",
    "backoffice.reviews.apps.ReviewsConfig",
    "backoffice.workflows.apps.WorkflowsConfig",
    "backoffice.reconciliation.apps.ReconciliationConfig",
    "backoffice.reporting.apps.ReportingConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "backoffice.urls"
WSGI_APPLICATION = "backoffice.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_USER_MODEL = "people.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
CSRF_FAILURE_VIEW = "backoffice.console.site.csrf_failure"

CACHES = {
    "default": {"BACKEND": "backoffice.core.cache.PatientRedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "desk"}
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
CSRF_TRUSTED_ORIGINS = env("CSRF_TRUSTED_ORIGINS", SITE_URL, "Origins that may post forms, by comma.", _words)

CELERY_BROKER_URL = REDIS_URL
# A hint to a broker that is away fails at once instead of holding a request for seconds; the outbox has the row.
CELERY_BROKER_TRANSPORT_OPTIONS = {"max_retries": 0, "socket_connect_timeout": 2}
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 15 * 60
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
MEDIA_ROOT = HOME / "media"

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.auth.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "api.pagination.CursorPages",
    "DEFAULT_THROTTLE_CLASSES": ["api.throttling.PersonThrottle", "api.throttling.AddressThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "person": env("API_RATE", "1200/min", "Requests of one signed-in person to the API."),
        "address": env("API_ANONYMOUS_RATE", "300/min", "Requests of one anonymous address to the API."),
        "login": env("API_LOGIN_RATE", "10/min", "Login attempts of one address."),
    },
    "EXCEPTION_HANDLER": "api.errors.problem",
    "UNAUTHENTICATED_USER": None,
    "NUM_PROXIES": env("PROXIES", "0", "Reverse proxies in front of the web part, for the client's address.", int),
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=30),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "UPDATE_LAST_LOGIN": False,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Staydesk API",
    "DESCRIPTION": "Search, quote, book, pay and cancel stays; list homes as a host.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {"PayoutStatus": "backoffice.payouts.states.PAYOUT.statuses"},
}

SECURE_HTTPS = env("HTTPS", "0" if DEBUG else "1", "1: cookies and redirects assume https.", _flag)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    # The SDK tells of every request at INFO; what matters of them is in our own records.
    "loggers": {"stripe": {"level": "WARNING"}},
    "root": {"handlers": ["stderr"], "level": env("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR.")},
}
