"""The docs say what is there: settings, addresses of the API, links, commands."""

import re
from pathlib import Path

import pytest

from atomapi.api import api

ROOT = Path(__file__).resolve().parent.parent
DOCS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_setting_is_documented() -> None:
    names = set(re.findall(r'"(KMS_[A-Z_]+)"', (ROOT / "kmsportal/settings.py").read_text()))
    text = (ROOT / "docs/operations.md").read_text()
    assert {name for name in names if name not in text} == set()


def test_every_call_of_the_api_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()
    calls = {
        f"{method} {path.replace('{enrolment_id}', '<id>').lstrip('/')}"
        for path, operations in api.get_openapi_schema(path_prefix="")["paths"].items()
        for method in (name.upper() for name in operations)
    }
    assert len(calls) == 13
    assert {call for call in calls if call not in text} == set()


@pytest.mark.parametrize("page", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`(?:[A-Z]+=\S+ )*make ([a-z-]+)`", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs/decisions/README.md").read_text()
    for path in (ROOT / "docs/decisions").glob("0*.md"):
        assert path.name in listed
