"""Settings that would make the promise hollow are refused before anything starts, in words."""

import os
import secrets
import subprocess
import sys

import pytest

from accounts.keyring import DEVELOPMENT_ROOT
from tests.live import ROOT

GOOD = {
    "KMS_MODE": "production",
    "KMS_SECRET_KEY": secrets.token_urlsafe(48),
    "KMS_ROW_KEY": secrets.token_urlsafe(48),
    "KMS_PORTAL_ROOT": secrets.token_hex(32),
    "KMS_ALLOWED_HOSTS": "kms.example.org",
    "KMS_PORTAL_URL": "https://kms.example.org",
    "KMS_DATABASE_URL": "postgres://kms@db.example.org/kms?sslmode=verify-full",
    "KMS_REDIS_URL": "rediss://:made-up@redis.example.org:6379/0",
    "KMS_VAULT_ADDR": "https://vault.example.org:8200",
    "KMS_VAULT_PUBLIC_ADDR": "https://vault.example.org:8200",
    "KMS_EMAIL_URL": "smtp+tls://kms:made-up@mail.example.org:587",
}
BAD = [
    ({"KMS_VAULT_ADDR": "http://vault.example.org:8200"}, "VAULT_ADDR must be an https address in production"),
    ({"KMS_VAULT_PUBLIC_ADDR": "http://vault.example.org"}, "VAULT_PUBLIC_ADDR must be an https address"),
    ({"KMS_PORTAL_URL": "http://kms.example.org"}, "PORTAL_URL must be an https address"),
    ({"KMS_VAULT_ADDR": "https://127.0.0.1:8200"}, "the embedded vault is for the demo only"),
    ({"KMS_VAULT_ADDR": "https://[::1]:8200"}, "the embedded vault is for the demo only"),
    ({"KMS_DATABASE_URL": "sqlite:////tmp/portal.sqlite3"}, "production needs PostgreSQL"),
    ({"KMS_SECRET_KEY": "short"}, "SECRET_KEY must have at least 32 characters"),
    ({"KMS_ROW_KEY": GOOD["KMS_SECRET_KEY"]}, "KMS_SECRET_KEY and KMS_ROW_KEY must differ"),
    ({"KMS_PORTAL_ROOT": ""}, "KMS_PORTAL_ROOT must be the 64 characters of the file portal-root"),
    ({"KMS_PORTAL_ROOT": DEVELOPMENT_ROOT.hex()}, "KMS_PORTAL_ROOT is the one of development"),
    ({"KMS_MFA_REQUIRED": "0"}, "the second factor can be optional in the demo only"),
    ({"KMS_EMAIL_URL": "consolemail://"}, "KMS_EMAIL_URL: production needs a mail server"),
    ({"KMS_EMAIL_URL": "dummymail://"}, "KMS_EMAIL_URL: production needs a mail server"),
    ({"KMS_EMAIL_URL": "smtp://mail.example.org:25"}, "KMS_EMAIL_URL must be smtp+tls or smtp+ssl"),
    ({"KMS_DATABASE_URL": "postgres://kms@db.example.org/kms"}, "sslmode=verify-full"),
    ({"KMS_DATABASE_URL": "postgres://kms@db.example.org/kms?sslmode=require"}, "sslmode=verify-full"),
    ({"KMS_REDIS_URL": "redis://:made-up@redis.example.org:6379/0"}, "KMS_REDIS_URL must be a rediss address"),
    ({"KMS_REDIS_URL": "rediss://redis.example.org:6379/0"}, "KMS_REDIS_URL needs a password"),
    ({"KMS_REDIS_URL": f"{GOOD['KMS_REDIS_URL']}?ssl_cert_reqs=none"}, "the certificate is always checked"),
    ({"KMS_ALLOWED_HOSTS": "*"}, "KMS_ALLOWED_HOSTS must name the hosts"),
    ({"KMS_ALLOWED_HOSTS": ""}, "KMS_ALLOWED_HOSTS must name the hosts"),
    ({"KMS_METRICS_TOKEN": "a"}, "KMS_METRICS_TOKEN must have at least 32 characters"),
    ({"KMS_BEHIND_TLS_PROXY": "1"}, "say in KMS_TRUSTED_PROXIES how many"),
    ({"KMS_SECRET_KEY_FILE": "/not/there"}, "/not/there cannot be read"),
    ({"KMS_ROW_KEY": ""}, "Set KMS_ROW_KEY or KMS_ROW_KEY_FILE"),
    ({"KMS_MODE": "prod"}, "KMS_MODE is production, demo or development"),
]


STARTS = {
    "web": ("gunicorn", "kmsportal.wsgi:application", "--bind", "127.0.0.1:0"),
    "worker": ("celery", "-A", "kmsportal", "worker", "-Q", "interactive", "-c", "1"),
}


def check(changes: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_"))}
    words = words or ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    words = (sys.executable, *words)
    return subprocess.run(
        words, cwd=ROOT, env=kept | GOOD | changes, capture_output=True, text=True, timeout=60, check=False
    )


def told(expression: str, **changes: str) -> str:
    """What the settings of another process say."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KMS_", "DJANGO_"))}
    words = [sys.executable, "-c", f"from kmsportal import settings; print({expression})"]
    done = subprocess.run(words, cwd=ROOT, env=kept | changes, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_the_mail_server_of_the_address_is_the_one_used() -> None:
    found = told("settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_HOST_USER, settings.EMAIL_USE_TLS", **GOOD)
    assert found == "mail.example.org 587 kms True"


@pytest.mark.parametrize("mode", ["demo", "development"])
def test_without_a_mail_server_no_link_is_printed(mode: str) -> None:
    assert told("settings.EMAIL_BACKEND", KMS_MODE=mode) == "django.core.mail.backends.dummy.EmailBackend"


def test_a_real_installation_passes() -> None:
    done = check({})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_belongs_to_the_demo_is_refused(changes: dict[str, str], message: str) -> None:
    done = check(changes)
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, "one line, and no traceback"
    assert not any(value in done.stderr for name, value in GOOD.items() if name.endswith("_KEY"))


@pytest.mark.parametrize("name", STARTS)
def test_no_process_starts_with_them(name: str) -> None:
    """Once only a command looked that nobody had to run."""
    done = check({"KMS_VAULT_ADDR": "http://vault.example.org:8200"}, "-m", *STARTS[name])
    assert done.returncode != 0
    assert "KMS_VAULT_ADDR must be an https address in production." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["migrate", "create_account", "sweep", "install_vault"])
def test_no_command_runs_with_them(command: str) -> None:
    done = check({"KMS_ALLOWED_HOSTS": "*"}, "manage.py", command)
    assert done.returncode == 1
    assert done.stderr == "KMS Portal does not start. KMS_ALLOWED_HOSTS must name the hosts, without a *.\n"


@pytest.mark.parametrize("name", ["web", "worker"])
def test_no_process_starts_without_credentials_of_its_own(name: str) -> None:
    for credentials, says in (
        ("", "Set KMS_CREDENTIALS."),
        ("/not/there", "/not/there/identities.json cannot be read"),
    ):
        done = check({"KMS_CREDENTIALS": credentials}, "-m", *STARTS[name])
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
