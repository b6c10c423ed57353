"""Whoever can write to the queue commands no worker, and writes no line of its log."""

import logging
from io import StringIO
from typing import Any

import pytest
import structlog

from kmsportal.celery import app
from kmsportal.logs import configure


@pytest.fixture
def said() -> Any:
    """What the log's own handler writes."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    configure({"level": "INFO", "json": False})
    stream = root.handlers[0].stream = StringIO()  # type: ignore[attr-defined]
    yield stream
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_worker_hears_no_remote_command() -> None:
    assert app.conf.worker_enable_remote_control is False


@pytest.mark.parametrize(
    "message", ["Received invalid task message: %s\nbody: %s", "Can't decode message body: %r\n\nbody: %s"]
)
def test_a_message_that_is_none_is_not_printed(said: StringIO, message: str) -> None:
    logging.getLogger("celery.worker.consumer.consumer").error(message, "canary", "canary\nFORGED")
    assert "message" in said.getvalue()
    assert "canary" not in said.getvalue()
    assert len(said.getvalue().splitlines()) == 1


def test_an_answer_that_is_no_message_is_not_printed(said: StringIO) -> None:
    error = UnicodeDecodeError("utf-8", b"canary \xff", 7, 8, "invalid start byte")
    logging.getLogger("celery.worker.consumer.consumer").warning("%s (%r)", "Connection lost.", error)
    assert "Connection lost. ('UnicodeDecodeError')" in said.getvalue()
    assert "canary" not in said.getvalue()


def test_an_id_writes_no_line_of_its_own(said: StringIO) -> None:
    logging.getLogger("celery.worker.strategy").info("Task %s received", "operations.run[a\n2026-11-26 [info] FORGED]")
    structlog.get_logger().info("asked\nFORGED", path="/a\r\nFORGED")
    assert len(said.getvalue().splitlines()) == 2


def test_of_a_failed_task_the_text_is_not_printed(said: StringIO) -> None:
    try:
        raise TypeError("unexpected keyword argument 'canary'")
    except TypeError as error:
        logging.getLogger("celery.app.trace").error("Task raised unexpected: %r", error, exc_info=True)
    assert "TypeError" in said.getvalue()
    assert "canary" not in said.getvalue()
