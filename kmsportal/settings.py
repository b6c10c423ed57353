"""Every setting of the portal, from the environment (names start with KMS_; a secret can be given as …_FILE).

`KMS_MODE` is `production` (nothing is assumed), `demo` (the embedded stack of `make run`) or `development`; none is assumed.
"""

import secrets
import ssl
from pathlib import Path
from urllib.parse import quote

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from accounts.keyring import DEVELOPMENT_ROOT
from kmsportal import links, production, reader

BASE_DIR = Path(__file__).resolve().parent.parent

MODE = reader.one_of("KMS_MODE", ("production", "demo", "development"), more="; to try the portal, use `make run`")
PRODUCTION = MODE == "production"
DEBUG = False
VAR = reader.path("KMS_VAR", BASE_DIR / "var")
PORT = reader.number("KMS_PORT", 8000, most=65535)


def _elsewhere(value: str) -> str | None:
    """The default of what production has to be given; a fixed, worthless value serves elsewhere."""
    return None if PRODUCTION else value


# Web's alone (sessions, second factors); other processes sign nothing with it, and each makes one up.
SECRET_KEY = reader.text("KMS_SECRET_KEY", "development-only" if MODE == "development" else "")
SECRET_KEY_GIVEN = bool(SECRET_KEY)
SECRET_KEY = SECRET_KEY or secrets.token_urlsafe(48)
ROW_KEY = reader.text(
    "KMS_ROW_KEY", _elsewhere("development-only-row-key")
).encode()  # of rows that several processes write
CREDENTIALS = reader.text("KMS_CREDENTIALS")  # this process's directory: vault identities, keys to sign with
STATE = reader.directory("KMS_STATE", _elsewhere(""))  # what this process remembers (accounts/memory.py)
PORTAL_ROOT = reader.text("KMS_PORTAL_ROOT", "" if PRODUCTION else DEVELOPMENT_ROOT.hex())  # public half, in hex

ALLOWED_HOSTS = reader.words("KMS_ALLOWED_HOSTS", () if PRODUCTION else ("localhost", "127.0.0.1", "testserver"))
PORTAL_URL = reader.address("KMS_PORTAL_URL", _elsewhere(f"http://localhost:{PORT}"))

# -- the hosted vault ---------------------------------------------------------------------------------------------------
VAULT_ADDR = reader.address("KMS_VAULT_ADDR", _elsewhere("http://127.0.0.1:8200"))
VAULT_PUBLIC_ADDR = reader.address("KMS_VAULT_PUBLIC_ADDR", VAULT_ADDR)  # what containers use
VAULT_CA = reader.certificates("KMS_VAULT_CA")
RUNTIME_WHEELS = reader.path("KMS_RUNTIME_WHEELS", BASE_DIR / "dist")

# -- applications -------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "kmsportal.apps.PortalConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin.apps.SimpleAdminConfig",  # the support staff's pages list their models by name
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "accounts",
    "operations",
    "atoms",
    "vaults",
    "extensions",
    "atomapi",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "kmsportal.middleware.browser_headers",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "kmsportal.middleware.login_required",
    "django.contrib.messages.middleware.MessageMiddleware",
    "kmsportal.middleware.unsent",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "kmsportal.middleware.htmx_redirects",
    "allauth.account.middleware.AccountMiddleware",
    "kmsportal.middleware.second_factor",
    "kmsportal.middleware.refused_methods",
    "kmsportal.middleware.vault_errors",
]

ROOT_URLCONF = "kmsportal.urls"
WSGI_APPLICATION = "kmsportal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "kmsportal.context.frame",
            ],
        },
    }
]

# -- database -----------------------------------------------------------------------------------------------------------
DATABASES = {"default": links.database("KMS_DATABASE_URL", _elsewhere(f"sqlite:///{quote(str(VAR))}/portal.sqlite3"))}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # a transaction that reads and then writes must not fail with "locked"
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000;"
        " PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["CONN_MAX_AGE"] = 60  # seconds; opening SQLite anew costs more than answering a container with 304
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- cache and queue ----------------------------------------------------------------------------------------------------
REDIS_URL = links.queue("KMS_REDIS_URL", _elsewhere("redis://127.0.0.1:6379/0"))
REDIS_CA = reader.certificates("KMS_REDIS_CA")
# Rate limits of sign-in only; in the database, so that they hold while Redis is down.
CACHES = {"default": {"BACKEND": "accounts.rate_limits.RateLimits"}}

# Tasks take ids of operations; the rows own the work, so the broker may die at any moment (operations/models.py).
CELERY_BROKER_URL = REDIS_URL
if REDIS_URL.startswith("rediss:"):
    CELERY_BROKER_USE_SSL = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": REDIS_CA,
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "interactive"
CELERY_WORKER_POOL = "threads"  # its clock is a thread too (operations/clock.py), and a fork keeps none
CELERY_WORKER_CONSUMER = "kmsportal.worker:Consumer"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker outlives its queue for as long as that is away
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False  # who can write to the queue delays and repeats, and commands nobody
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "health_check_interval": 30,
    "max_retries": 0,
}

# -- signing in ---------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.signin.SignedCredentials"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "accounts.signin.PortalAccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"  # accounts are made by an operator or an administrator, who vouch for the address
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "http" if not PRODUCTION else "https"
ALLAUTH_TRUSTED_PROXY_COUNT = reader.number(
    "KMS_TRUSTED_PROXIES", 0, least=0, most=10
)  # whose X-Forwarded-For rate limits believe
ACCOUNT_FORMS = {"reset_password": "accounts.signin.SignedResetForm"}
MFA_FORMS = {
    "authenticate": "accounts.signin.AuthenticateForm",
    "reauthenticate": "accounts.signin.ReauthenticateForm",
}
MFA_ADAPTER = "accounts.second_factors.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_REQUIRED = reader.switch("KMS_MFA_REQUIRED", MODE != "demo")
# Without an address mail goes nowhere: printed, the links that reset passwords would lie in the log.
vars().update(links.mail("KMS_EMAIL_URL", "dummymail://"))
EMAIL_CA = reader.certificates("KMS_EMAIL_CA")
EMAIL_TIMEOUT = 10  # seconds: a mail server that hangs holds up nothing
DEFAULT_FROM_EMAIL = reader.text("KMS_EMAIL_FROM", "kms-portal@localhost")

SESSION_COOKIE_NAME = f"__Host-session-{PORT}" if PRODUCTION else f"session-{PORT}"  # two stacks on one host
CSRF_COOKIE_NAME = f"__Host-csrf-{PORT}" if PRODUCTION else f"csrf-{PORT}"
INSTALLER_TOKEN_COOKIE_NAME = f"{'__Secure-' if PRODUCTION else ''}installer-token-{PORT}"  # atoms/shown_token.py
THEME_COOKIE_NAME = "__Host-theme" if PRODUCTION else "theme"
MESSAGES_COOKIE_NAME = "__Host-messages" if PRODUCTION else "messages"
MESSAGE_STORAGE = "kmsportal.messages.NamedCookieStorage"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_ENGINE = "accounts.sessions"
SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"

# -- the browser --------------------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = PRODUCTION
SECURE_REDIRECT_EXEMPT = [r"^api/", r"^live$", r"^ready$"]  # a redirected API call would already have sent its token
SECURE_HSTS_SECONDS = 31536000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
if reader.switch("KMS_BEHIND_TLS_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_FAILURE_VIEW = "kmsportal.errors.csrf_failure"
CSRF_TRUSTED_ORIGINS = reader.origins("KMS_TRUSTED_ORIGINS")

# A save has at most 2,000 fields and 4 MiB of values; form encoding can triple a byte. Without script a browser posts every
# input of the dialog, changed or not.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 25_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 13 * 1024 * 1024
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]  # never a temporary file

STATIC_URL = "/static/"
STATIC_ROOT = reader.path("KMS_STATIC_ROOT", VAR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if MODE == "development"
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = MODE == "development"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

# Nothing of a request's body may reach a report, whatever the field is called.
DEFAULT_EXCEPTION_REPORTER_FILTER = "kmsportal.error_reports.NoValuesFilter"
LOGGING_CONFIG = "kmsportal.logs.configure"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOGGING = {"level": reader.one_of("KMS_LOG_LEVEL", LOG_LEVELS, "INFO"), "json": PRODUCTION}
METRICS_TOKEN = reader.text("KMS_METRICS_TOKEN")
QUOTAS = {  # of one account; accounts/quota.py
    "environments": reader.number("KMS_MOST_ENVIRONMENTS", 1_000),
    "Atoms": reader.number("KMS_MOST_ATOMS", 10_000),
    "connections": reader.number("KMS_MOST_CONNECTIONS", 1_000),
}
ATOM_REQUESTS_PER_SECOND = reader.rate("KMS_ATOM_REQUESTS_PER_SECOND", 10)  # of one container, on average
ATOM_POLL_SECONDS = 5  # how often a container asks; online means it asked within six of these
ROTATION_SETTLE_SECONDS = reader.number(
    "KMS_ROTATION_SETTLE_SECONDS", 600, least=0, most=86_400
)  # a save in flight has ended by then
BACKUP_RETENTION_DAYS = reader.number("KMS_BACKUP_RETENTION_DAYS", 35, least=0, most=36_500)

if PRODUCTION and (found := production.faults(globals())):
    raise ImproperlyConfigured(" ".join(found))
