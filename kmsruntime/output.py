"""What this program says: values and answers on standard output, everything else on standard error; each may be closed or full,
and have letters for less than there is to say.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from kmsruntime.errors import StorageFailed, printable


def say(line: str) -> None:
    """One line to standard error, with the time; whatever names are in it, it stays one line."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    complain(f"{moment} kms-runtime: {printable(line)}")


def put(content: bytes) -> None:
    """To standard output. Raises StorageFailed where not all of it arrives: what did not was not given."""
    if sys.stdout is None:  # it was closed
        raise StorageFailed("output_failed", "Standard output is closed: run this with one.")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        raise StorageFailed(
            "output_failed", f"Standard output takes no more ({error.strerror}): send it elsewhere."
        ) from None


def put_line(text: str) -> None:
    """As `put`, for people: what the terminal has no letters for is shown as its escape."""
    encoding = sys.stdout.encoding if sys.stdout else "ascii"
    put(f"{text}\n".encode(encoding, "backslashreplace"))


def complain(line: str) -> None:
    """To standard error, if it takes it; never to standard output, where somebody may be waiting for a value."""
    if sys.stderr is not None:
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """What it did not take, Python would try again at its end, and exit with a code of its own."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
