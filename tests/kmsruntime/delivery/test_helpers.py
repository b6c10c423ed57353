"""Threads for calls to servers: their results and errors, and what is done where none can be begun."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kmsruntime.delivery.helpers import Helpers
from tests.live import ROOT

NO_THREAD = """
import resource, threading
from kmsruntime.delivery.helpers import Helpers
resource.setrlimit(resource.RLIMIT_AS, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (200 << 20),) * 2)
threading.stack_size(1 << 30)
with Helpers(3) as helpers:
    print([future.result() for future in [helpers.submit(divmod, 7, number) for number in (2, 3)]])
"""


def test_what_is_raised_comes_with_the_result() -> None:
    with Helpers(2) as helpers:
        futures = [helpers.submit(divmod, 7, number) for number in (2, 0, 3)]
    assert futures[0].result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        futures[1].result()
    assert futures[2].result() == (2, 1)


def test_where_no_thread_can_be_begun_the_work_is_done_all_the_same() -> None:
    """It waited for ever, with the lock held."""
    done = subprocess.run(
        [sys.executable, "-c", NO_THREAD], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "[(3, 1), (2, 1)]\n", done.stderr
