"""Settings that would make the promise hollow are refused before anything starts, in words."""

import os
import re
import runpy
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from accounts.keyring import DEVELOPMENT_ROOT, new_key, public_half
from kmsportal.refusal import one_line
from tests.live import ROOT

GOOD = {
    "KMS_MODE": "production",
    "KMS_SECRET_KEY": secrets.token_urlsafe(48),
    "KMS_ROW_KEY": secrets.token_urlsafe(48),
    "KMS_PORTAL_ROOT": public_half(new_key()).hex(),
    "KMS_STATE": tempfile.mkdtemp(),
    "KMS_ALLOWED_HOSTS": "kms.example.org",
    "KMS_PORTAL_URL": "https://kms.example.org",
    "KMS_DATABASE_URL": "postgres://kms@db.example.org/kms?sslmode=verify-full",
    "KMS_REDIS_URL": "rediss://:made-up-by-the-tests@redis.example.org:6379/0",
    "KMS_VAULT_ADDR": "https://vault.example.org:8200",
    "KMS_VAULT_PUBLIC_ADDR": "https://vault.example.org:8200",
    "KMS_EMAIL_URL": "smtp+tls://kms:made-up@mail.example.org:587",
}
NO_KEYS = [  # as public halves: of small order, in all spellings, and off the curve
    *(
        "00" * 32,
        f"01{'00' * 31}",
        f"ec{'ff' * 30}7f",
        f"{'00' * 31}80",
        f"01{'00' * 30}80",
        "ff" * 32,
        f"02{'00' * 31}",
    ),
    *("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", f"ed{'ff' * 30}7f", f"ee{'ff' * 30}7f"),
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]
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
    ({"KMS_STATE": ""}, "Set KMS_STATE"),
    ({"KMS_STATE": "/not/there"}, "KMS_STATE must name a directory that this process may write to"),
    ({"KMS_PORTAL_ROOT": "0" * 64}, "KMS_PORTAL_ROOT must be the 64 characters of the file portal-root"),
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
    ({"KMS_MODE": "prod"}, "KMS_MODE must be production, demo or development; to try the portal, use `make run`"),
    ({"KMS_MODE": ""}, "KMS_MODE must be production, demo or development; to try the portal, use `make run`"),
]
DATABASE = "KMS_DATABASE_URL must name a host and end with ?sslmode=verify-full"
NO_DATABASE = "KMS_DATABASE_URL must be an address as postgres://user:password@host"
NO_QUEUE = "KMS_REDIS_URL must be an address as rediss://:password@host:6379/0"
NO_MAIL = "KMS_EMAIL_URL must be an address as smtp+tls://user:password@host:587"
NO_TEXT = os.fsdecode(b"\xff\xfe" * 20)
LINKS = [  # to the database in the clear, past what looked at the address
    ({"KMS_DATABASE_URL": "postgres:///kms?host=db.example.org"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres://%2Fvar%2Frun/kms?host=db.example.org"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres://kms@%2Fvar%2Frun,db.example.org/kms"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres:///kms"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres:///kms?sslmode=verify-full"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres://%40kms/kms?sslmode=verify-full"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres:///kms?host=db.example.org,&sslmode=verify-full"}, DATABASE),
    ({"KMS_DATABASE_URL": f"{GOOD['KMS_DATABASE_URL']}&sslmode=disable"}, DATABASE),
    ({"KMS_DATABASE_URL": "postgres:///kms?hostaddr=10.0.0.9"}, "KMS_DATABASE_URL must not have hostaddr"),
    ({"KMS_DATABASE_URL": "postgres:///kms?service=remote"}, "KMS_DATABASE_URL must not have service"),
    ({"KMS_DATABASE_URL": f"{GOOD['KMS_DATABASE_URL']}&sslkeylogfile=/tmp/keys"}, "must not have sslkeylogfile"),
    *(({name: "x"}, f"unset {name}") for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGSSLMODE")),
]
WEAK = [  # each was accepted
    *(
        ({name: f"https://{host}:8200"}, f"{name} is this machine")
        for name in ("KMS_VAULT_ADDR", "KMS_VAULT_PUBLIC_ADDR")
        for host in (
            *("localhost.localdomain", "LOCALHOST.LocalDomain.", "localhost4.localdomain4", "localhost6", "loopback"),
            *(
                "ip6-localhost",
                "IP6-Loopback.",
                "\u24dbocalhost",
                "127\u30020.0.1",
                "127.1",
                "0",
                "[::1]",
                "[::]",
                "0.0.0.0.",
            ),
        )
    ),
    *(
        ({"KMS_PORTAL_ROOT": root}, "KMS_PORTAL_ROOT must be the 64 characters")
        for root in (*NO_KEYS, GOOD["KMS_PORTAL_ROOT"].upper())
    ),
    *(({name: "ab" * 32}, f"{name} must have at least 32") for name in ("KMS_SECRET_KEY", "KMS_ROW_KEY")),
    ({"KMS_METRICS_TOKEN": "0" * 64}, "KMS_METRICS_TOKEN must have at least 32 characters"),
    *(
        ({"KMS_REDIS_URL": f"rediss://:{password}@redis.example.org:6379/0"}, "KMS_REDIS_URL needs a password")
        for password in ("k", "changeme", "k" * 40, "%6B" * 15)
    ),
    *(
        (
            {"KMS_DATABASE_URL": f"postgres://kms:{password}@db.example.org/kms?sslmode=verify-full"},
            "KMS_DATABASE_URL: a password must have",
        )
        for password in ("k", "k" * 40)
    ),
]
UNUSABLE = [  # once a traceback, or a surprise later
    ({"KMS_PORT": "abc"}, "KMS_PORT must be a whole number from 1 to 65,535"),
    ({"KMS_TRUSTED_PROXIES": "x"}, "KMS_TRUSTED_PROXIES must be a whole number"),
    ({"KMS_TRUSTED_PROXIES": "-1"}, "KMS_TRUSTED_PROXIES must be a whole number"),
    ({"KMS_MOST_ATOMS": "ten"}, "KMS_MOST_ATOMS must be a whole number"),
    ({"KMS_BACKUP_RETENTION_DAYS": "9" * 400}, "KMS_BACKUP_RETENTION_DAYS must be a whole number"),
    *(
        ({"KMS_ATOM_REQUESTS_PER_SECOND": given}, "KMS_ATOM_REQUESTS_PER_SECOND must be a number above 0")
        for given in ("fast", "nan", "inf", "0", "-1")
    ),
    ({"KMS_LOG_LEVEL": "LOUD"}, "KMS_LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    ({"KMS_BEHIND_TLS_PROXY": "maybe"}, "KMS_BEHIND_TLS_PROXY must be 1 or 0"),
    ({"KMS_TRUSTED_ORIGINS": "kms.example.org"}, "KMS_TRUSTED_ORIGINS must be addresses"),
    ({"KMS_ALLOWED_HOSTS": ".org"}, "KMS_ALLOWED_HOSTS must name the hosts"),
    *(
        ({name: given}, f"{name} must be an address")
        for name in ("KMS_VAULT_ADDR", "KMS_VAULT_PUBLIC_ADDR", "KMS_PORTAL_URL")
        for given in ("https://[::1", "https://", "https://vault.example.org:abc", "vault.example.org")
    ),
    *(
        ({"KMS_VAULT_ADDR": f"https://{host}:8200"}, "the embedded vault is for the demo only")
        for host in ("127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::ffff:127.0.0.1]", "localhost.", "a.localhost")
    ),
    *(
        ({name: "/nope"}, f"{name} must name a file of cert")
        for name in ("KMS_REDIS_CA", "KMS_VAULT_CA", "KMS_EMAIL_CA")
    ),
    (
        {"KMS_DATABASE_URL": f"{GOOD['KMS_DATABASE_URL']}&sslrootcert=/nope"},
        "KMS_DATABASE_URL: sslrootcert must name a file",
    ),
    *(
        ({"KMS_DATABASE_URL": given}, NO_DATABASE)
        for given in (
            "garbage",
            "foo://x",
            "postgres://kms@db:port/kms",
            "postgres://kms@[::1/kms",
            "postgres://kms@db",
        )
    ),
    *(
        ({"KMS_REDIS_URL": f"rediss://:made-up@{rest}"}, NO_QUEUE)
        for rest in ("[::1", "a;b@host/0", "host:abc/0", "host:6379/abc", "/0", "host/0;redis://other/0", "host/0#x")
    ),
    *(
        ({"KMS_EMAIL_URL": given}, NO_MAIL)
        for given in (
            "garbage",
            "foo://x",
            "smtp+tls://mail:abc",
            "smtp+tls://",
            "smtp+tls://mail/x",
            "smtp+tls://mail?ssl=0",
        )
    ),
    ({"KMS_SECRET_KEY": NO_TEXT}, "KMS_SECRET_KEY must be one line of text in UTF-8"),
    ({"KMS_ROW_KEY": " " * 40}, "Set KMS_ROW_KEY or KMS_ROW_KEY_FILE"),
    ({"KMS_ROW_KEY_FILE": sys.executable}, "KMS_ROW_KEY_FILE must name a file with one line of text in UTF-8"),
]
PASSWORDS = [
    "S3cret/part2",
    "123/S3cret",
    "S3cret#part2",
    "S3cret?part2",
    "S3cret@part2",
    "S3cret[part2",
    "S3cret%part2",
    "S3cret:",
    "a;S3cret",
]


STARTS = {
    "web": ("gunicorn", "kmsportal.wsgi:application", "--bind", "127.0.0.1:0"),
    "worker": ("celery", "-A", "kmsportal", "worker", "-Q", "interactive", "-c", "1"),
    "watch": ("manage", "watch"),
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


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[dict[str, str]], str]:
    """What reading the settings says, in this process; "" when they pass."""

    def read(changes: dict[str, str]) -> str:
        for name in [name for name in os.environ if name.startswith(("KMS_", "PG"))]:
            monkeypatch.delenv(name)
        for name, value in (GOOD | changes).items():
            monkeypatch.setenv(name, value)
        with suppress(SystemExit), one_line():
            runpy.run_path(str(ROOT / "kmsportal/settings.py"))
        return capsys.readouterr().err

    return read


@pytest.mark.parametrize(("changes", "message"), LINKS + WEAK + UNUSABLE)
def test_what_cannot_be_used_is_refused(
    said: Callable[[dict[str, str]], str], changes: dict[str, str], message: str
) -> None:
    line = said(changes)
    assert line.startswith("KMS Portal does not start. ")
    assert message in line
    assert line.count("\n") == 1
    assert "made-up" not in line


@pytest.mark.parametrize(
    "changes", [{}, {"KMS_DATABASE_URL": "postgres://kms@%2Fvar%2Frun%2Fpostgresql/kms"}, {"PGDATA": "/srv"}]
)
def test_what_can_be_used_passes(said: Callable[[dict[str, str]], str], changes: dict[str, str]) -> None:
    assert said(changes) == ""


def test_the_line_end_of_a_file_is_none_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("smtp+ssl://me:a%2Fb@mail.example.org\n")
    found = told("settings.EMAIL_HOST_PASSWORD, settings.EMAIL_PORT", **GOOD, KMS_EMAIL_URL_FILE=str(tmp_path / "url"))
    assert found == "a/b 465"


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("name", ["KMS_DATABASE_URL", "KMS_REDIS_URL", "KMS_EMAIL_URL"])
def test_of_a_password_that_was_not_encoded_no_part_is_printed(
    said: Callable[[dict[str, str]], str], name: str, password: str
) -> None:
    """What follows its / or # once passed for a port, and was named in a traceback."""
    scheme, _, rest = GOOD[name].partition("://")
    line = said({name: f"{scheme}://kms:{password}@{rest.rpartition('@')[2]}"})
    assert not re.search("S3cret|part2", line)
    assert line == "" or re.match(
        f"KMS Portal does not start. {name}( must be an address|: a password must| needs a password)", line
    )


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("changes", [{"KMS_REDIS_URL": "rediss://:pw@host:abc/0"}, {"KMS_MODE": ""}])
def test_no_process_starts_with_what_cannot_be_used(name: str, changes: dict[str, str]) -> None:
    done = check(changes, "-m", *STARTS[name])
    assert done.returncode != 0
    assert f"KMS Portal does not start. {next(iter(changes))} must be" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_of_ours_is_no_refusal_of_settings() -> None:
    with pytest.raises(ValueError, match="ours"), one_line():
        raise ValueError("ours")


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
    assert done.stderr == "KMS Portal does not start. KMS_ALLOWED_HOSTS must name the hosts in full, without a *.\n"


@pytest.mark.parametrize("name", STARTS)
def test_no_process_starts_without_credentials_of_its_own(name: str) -> None:
    for credentials, says in (
        ("", "Set KMS_CREDENTIALS."),
        ("/not/there", "/not/there/identities.json cannot be read"),
    ):
        done = check({"KMS_CREDENTIALS": credentials}, "-m", *STARTS[name])
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
