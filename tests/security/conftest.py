"""A live portal, and what an attacker holds beside it."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import PASSWORD
from tests.kmsruntime.conftest import another, container, enrolled
from tests.live import LivePortal
from tests.security.visitor import Visitor

__all__ = ["another", "container", "enrolled"]


@pytest.fixture
def visitor(portal: LivePortal) -> Callable[..., Visitor]:
    """Somebody with a browser of their own, signed in as one of the cast when a name is given."""

    def come(name: str = "") -> Visitor:
        found = Visitor(portal.url)
        if name:
            found.sign_in(getattr(portal.stage.cast, name).email, PASSWORD)
        return found

    return come


@pytest.fixture
def got(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what an attacker gets although the rule holds, because it is one of the threat model's residuals."""
    return lambda what: record_property("got", what)


_told: list[tuple[str, str, str]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attack", action="store_true", help="say at the end who tried what and got what (make attack)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """The file's name is who, the test's what; a test that fails is something that was got, and so is what a test records."""
    report = (yield).get_result()  # type: ignore[misc]  # pluggy's result
    if report.failed or report.when == "call":
        who = item.path.stem.removeprefix("test_").replace("_", " ")
        recorded = "; ".join(str(value) for name, value in item.user_properties if name == "got")
        got = _reason(report) if report.failed else recorded or ("nothing" if report.passed else report.outcome)
        _told.append((who, item.name.removeprefix("test_").replace("_", " "), got))


def _reason(report: pytest.TestReport) -> str:
    """Of a failure, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return "FAILED: " + " ".join((crash.message if crash else report.longreprtext).split())[:200]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--attack"):
        lines = [("attacker", "what was tried (as the rule that holds)", "what it got"), *_told]
        wide, wider = (max(len(line[column]) for line in lines) for column in (0, 1))
        for who, what, got in lines:
            terminalreporter.write_line(f"{who:{wide}} | {what:{wider}} | {got}")
