"""The steps of a process: where something leaves it, which is before and after every vault call and every commit."""

from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from kmscore.vaultclient.http import HttpClient


def call_at_steps(step: Callable[[], None]) -> None:
    """Have `step` called at every one of them, in this process, from now on."""
    HttpClient.request = _around(step, HttpClient.request)  # type: ignore[method-assign]
    BaseDatabaseWrapper._commit = _around(step, BaseDatabaseWrapper._commit)  # type: ignore[attr-defined]


def _around(step: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def stepping(*args: Any, **kwargs: Any) -> Any:
        step()
        result = function(*args, **kwargs)
        step()
        return result

    return stepping
