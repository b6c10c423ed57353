"""What stands in a field of the portal's answer, by its type: nothing of another one is worked with. Pure.

Each returns what it is given, and raises ValueError.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from kmscore.byov.customer import ACCOUNT_CODE


def number(found: Any) -> int:
    """A whole number, not below 0, and one that 63 bits keep."""
    if type(found) is not int or not 0 <= found < 1 << 63:
        raise ValueError
    return found


def small_number(found: Any) -> int:
    """A whole number that a column of the portal's keeps: a larger one would have each report refused."""
    if number(found) >= 1 << 31:
        raise ValueError
    return int(found)


def text(found: Any) -> str:
    """A text, which may be empty."""
    if type(found) is not str:
        raise ValueError
    return found


def token(found: Any) -> str:
    """A text that can be sent in a header."""
    if not (text(found) and found.isascii() and found.isprintable()):
        raise ValueError
    return found


def account_code(found: Any) -> str:
    """An account's code: it becomes part of a path at the customer's vault, and of a command for people."""
    if not re.fullmatch(ACCOUNT_CODE, text(found)):
        raise ValueError
    return str(found)


def uuid_text(found: Any) -> str:
    """An id as everybody writes it: it becomes part of a path."""
    if str(uuid.UUID(text(found))) != found:
        raise ValueError
    return found
