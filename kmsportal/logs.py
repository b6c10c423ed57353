"""Logging: structured lines on standard error. Exceptions are logged by type and place, not by their text or variables.

A third party's exception text can hold anything (hvac's hold plaintexts), so none is printed.
"""

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

import structlog

_QUEUE, _TASKS = "celery.worker.consumer.consumer", "celery.app.trace"
_PRINTS_BODIES = ("Received", "Can't decode message body")
_SERVER, _PRINTS_REQUESTS = "gunicorn.error", "Invalid request"


def configure(options: dict[str, Any]) -> None:
    """Called by Django with settings.LOGGING: {"level": name, "json": bool}."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _place_only,
        _one_line,
    ]
    last = structlog.processors.JSONRenderer() if options["json"] else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.getLogger(_QUEUE).addFilter(_no_bodies)
    logging.getLogger(_TASKS).addFilter(_no_texts)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(options["level"])
    logging.getLogger("django.server").propagate = True
    server = logging.getLogger(_SERVER)  # in a process of gunicorn's it has handlers of its own by now
    server.addFilter(_no_requests)
    for own in server.handlers:
        own.setFormatter(handler.formatter)


def _no_bodies(record: logging.LogRecord) -> bool:
    """Of a message that is none of ours Celery prints all there is, line ends included: who can write to the queue would write
    in the log. Its first words remain, up to what it would fill in; and of an error its type, for its text may quote the message.
    """
    if isinstance(record.msg, str) and record.msg.startswith(_PRINTS_BODIES):
        record.msg, record.args = record.msg.partition("%")[0].partition("\n")[0].strip(" :["), ()
    elif isinstance(record.args, tuple):
        record.args = tuple(type(one).__name__ if isinstance(one, Exception) else one for one in record.args)
    return True


def _no_requests(record: logging.LogRecord) -> bool:
    """Of a request that gunicorn cannot read or answer it prints what it was sent, which can be a password or a token. Its own
    words and numbers remain."""
    if isinstance(record.msg, str) and record.msg.startswith(_PRINTS_REQUESTS):
        record.msg, record.args = record.msg.partition(": ")[0], ()
    elif isinstance(record.args, tuple):
        record.args = tuple(one if isinstance(one, int) else "…" for one in record.args)
    return True


def _no_texts(record: logging.LogRecord) -> bool:
    """Of a task that failed Celery prints the exception's text; its type and place are told by `_place_only`."""
    if record.exc_info:
        record.msg, record.args = "A task failed", ()
    return True


def _one_line(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Nobody writes a line of the log but us: what others name (a task's id, a path) has its line ends as escapes."""
    said = str(event.get("event", ""))
    event["event"] = said if said.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in said)
    return event


def _place_only(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace exception information by the exception's type and the lines it passed through."""
    info = event.pop("exc_info", None)
    record = event.get("_record")
    if record is not None and record.exc_info:
        info = record.exc_info
        record.exc_info = record.exc_text = None
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["error"] = info[0].__name__
        event["at"] = _lines(info[2])
    return event


def _lines(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-6:]
    return [f"{frame.filename.rsplit('site-packages/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
