"""What may be a value. Pure rules, used by the dialog's form and by every other door."""

import re

from extensions.models import MAX_VALUE_BYTES

_PLACEHOLDER = re.compile(r"<\s*encrypted\s*>|[*•●]+", re.IGNORECASE)


class BadValue(ValueError):
    """The text cannot be a value; the message says why and never repeats it."""


def checked(text: str) -> str:
    """The value as it will be stored. Raises BadValue.

    Browsers submit line breaks as CR LF whatever was typed (HTML, form submission), so they become LF again; nothing else
    is changed, white space at the ends included. Bytes that are no UTF-8 arrive as U+FFFD (Django decodes a form that way):
    saving that would silently be another value.
    """
    text = text.replace("\r\n", "\n")
    if "\0" in text:
        raise BadValue("This value contains a NUL character. Encode binary data, for example as base64.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\N{REPLACEMENT CHARACTER}" in text:
        raise BadValue("This value is not valid text. Encode binary data, for example as base64.")
    if size > MAX_VALUE_BYTES:
        raise BadValue(f"This value is {size / 1024:,.0f} KiB; at most 64 KiB can be stored.")
    return text


def checked_secret(text: str) -> str:
    """The same for an encrypted field: empty values and the marks that stand for a hidden value are refused too."""
    text = checked(text)
    if not text:
        raise BadValue("Type the new value.")
    if _PLACEHOLDER.fullmatch(text.strip()):
        raise BadValue(
            "This is the mark for a hidden value, not a value. Type the value itself, or leave the stored one."
        )
    return text
