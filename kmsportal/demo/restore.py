"""An embedded stack that is stopped, for `manage.py restore --var`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.core.management.base import CommandError

from kmsportal.demo.directory import DemoError, StackDirectory, inner_ports, lock, open_place
from kmsportal.demo.processes import stop_leftovers


@contextmanager
def stopped(var: Path, port: int) -> Iterator[StackDirectory]:
    """Hold a stack's VAR while nothing of it runs. Raises CommandError, also for DemoError inside the block."""
    try:
        place = open_place(var, port)
        with closing(lock(place)):
            stop_leftovers(place.directory("run"))  # of a stack that was killed
            yield place
        return
    except DemoError as error:
        said = str(error)
    raise CommandError(said)


def put_back_vault(place: StackDirectory, snapshot: Path, aside: str) -> None:
    """Put the snapshot back, and make the credentials anew. Raises DemoError, CommandError without the vault's package."""
    try:
        from kmsportal.demo.servers import OpenBao
    except ModuleNotFoundError as error:
        raise CommandError(f"The package {error.name} is not installed: run `make .venv` and start again.") from None
    ports = inner_ports(place)
    OpenBao(place, ports["openbao"], ports["openbao_cluster"]).restore(snapshot, aside)
