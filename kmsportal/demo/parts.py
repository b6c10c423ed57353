"""The portal's own processes in the embedded stack: their commands and exactly the environment each is given."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from kmsportal.demo.directory import ROOT, DemoError, StackDirectory
from kmsportal.demo.processes import Child, note_pid
from kmsportal.demo.servers import OpenBao, Valkey

# Anything else of these families in the caller's shell could point a part to another installation.
_NOT_INHERITED: Final = ("KMS_", "DJANGO_", "VAULT_", "BAO_", "CELERY_", "GUNICORN_")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def environment(place: StackDirectory, openbao: OpenBao, valkey: Valkey, process: str) -> dict[str, str]:
    """The variables of docs/operations.md for one process. process: the name of its directory in VAR/credentials."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_INHERITED) and name.lower() not in _PROXIES
    }
    own = {
        "DJANGO_SETTINGS_MODULE": "kmsportal.settings",
        "PYTHONUNBUFFERED": "1",
        "KMS_MODE": "demo",
        "KMS_VAR": str(place.var),
        "KMS_PORT": str(place.port),
        "KMS_ROW_KEY_FILE": str(place.secret("row_key")),
        "KMS_DATABASE_URL": f"sqlite:///{quote(str(place.database))}",
        "KMS_REDIS_URL": valkey.url,
        "KMS_VAULT_ADDR": openbao.address,
        "KMS_RUNTIME_WHEELS": str(place.directory("wheels")),
        "KMS_ALLOWED_HOSTS": "localhost,127.0.0.1",
        "KMS_CREDENTIALS": str(place.directory("credentials") / process),
        "KMS_PORTAL_ROOT": place.portal_root,
        "KMS_STATE": str(place.directory("state")),
    }
    if process == "web":
        own["KMS_SECRET_KEY_FILE"] = str(place.secret("secret_key"))
    return inherited | own


def runtime_environment() -> dict[str, str]:
    """The container's program is told nothing of the portal but what stands on its command line."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def worker(place: StackDirectory, variables: Mapping[str, str]) -> Child:
    """What people wait for; bulk work has a worker of its own, so that it never stands in the way."""
    return _worker(place, "worker", "interactive", variables)


def bulk_worker(place: StackDirectory, variables: Mapping[str, str]) -> Child:
    return _worker(place, "bulk", "bulk", variables)


def shred_worker(place: StackDirectory, variables: Mapping[str, str]) -> Child:
    """The only one with the credentials to destroy keys."""
    return _worker(place, "shredder", "shred", variables)


def watch(place: StackDirectory, variables: Mapping[str, str]) -> Child:
    """The only one with the credentials to see and destroy logins."""
    return _child(place, "watch", [sys.executable, str(ROOT / "manage.py"), "watch"], variables)


def _worker(place: StackDirectory, name: str, queue: str, variables: Mapping[str, str]) -> Child:
    command = [
        *(sys.executable, "-m", "celery", "-A", "kmsportal", "worker", "-Q", queue, "--concurrency", "1"),
        *("--hostname", f"{name}@localhost", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
    ]
    return _child(place, name, command, variables)


def web(place: StackDirectory, variables: Mapping[str, str]) -> Child:
    command = [
        *(sys.executable, "-m", "gunicorn", "kmsportal.wsgi:application", "--bind", f"127.0.0.1:{place.port}"),
        *("--worker-class", "gthread", "--workers", "2", "--threads", "8", "--graceful-timeout", "5"),
        *("--no-control-socket", "--worker-tmp-dir", str(place.directory("run"))),
    ]
    return _child(place, "web", command, variables)


def runtime(place: StackDirectory) -> Child:
    command = [sys.executable, "-m", "kmsruntime", "run", "--dir", str(place.directory("runtime"))]
    return _child(place, "runtime", command, runtime_environment())


def _child(place: StackDirectory, name: str, command: Sequence[str], variables: Mapping[str, str]) -> Child:
    log, pid_file = place.directory("logs") / f"{name}.log", place.directory("run") / f"{name}.pid"
    return Child(name, command, variables, ROOT, log, pid_file)


def run_once(
    place: StackDirectory,
    name: str,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    *,
    failure: str,
    standard_input: str = "",
) -> str:
    """Run a Python program to its end; returns its output, which is not logged. Raises DemoError with `failure`."""
    log, pid_file = place.directory("logs") / f"{name}.log", place.directory("run") / f"{name}.pid"
    with log.open("ab") as errors:
        done = subprocess.run(
            [sys.executable, *arguments],
            input=standard_input.encode(),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(variables),
            cwd=ROOT,
            check=False,
            start_new_session=True,
            preexec_fn=lambda: note_pid(pid_file),
        )
    pid_file.unlink(missing_ok=True)
    if done.returncode:
        raise DemoError(failure, f"The reason is at the end of {log}; mend it and start again.")
    return done.stdout.decode()
