"""The Environment Extensions dialog as a browser without script, or htmx, posts it."""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from extensions.connections import FieldSpec, save_connection
from extensions.models import Connection, ExtensionValue, ProcessProperty
from tests.conftest import Stage, client_of


@dataclass
class Dialog:
    """The stage's production environment in one session of Alice's. Keys of fields stand for their ids."""

    stage: Stage

    def __post_init__(self) -> None:
        self.client = client_of(self.stage.alice)

    @property
    def url(self) -> str:
        return reverse("extensions:environment_extensions", args=[self.stage.account.code, self.stage.production.pk])

    def revision(self) -> int:
        self.stage.production.refresh_from_db()
        return self.stage.production.extensions_revision

    def post(self, *, expected: int | None = None, htmx: bool = False, **inputs: str) -> Any:
        """inputs: secret_<key>, value_<key>, component_<key>, clear_<key>; anything else is posted under its own name."""
        form = {"expected_revision": str(self.revision() if expected is None else expected)}
        for name, value in inputs.items():
            kind, _, key = name.partition("_")
            known = kind in ("secret", "value", "component", "clear") and key
            form[f"{kind}.{self.stage.field(key).pk}" if known else name] = value
        return self.send(form, htmx=htmx)

    def send(self, form: dict[str, str], *, htmx: bool = False) -> Any:
        headers = {"hx-request": "true"} if htmx else {}
        return self.client.post(self.url, form, headers=headers)

    def page(self) -> str:
        answer = self.client.get(self.url)
        assert answer.status_code == 200
        return str(answer.content.decode())

    def holds(self) -> set[tuple[str, int]]:
        """(field or property, revision) of everything held: whether a save wrote anything."""
        environment = self.stage.production
        values = ExtensionValue.objects.filter(environment=environment).values_list("field__key", "revision")
        return set(values) | set(
            ProcessProperty.objects.filter(environment=environment).values_list("name", "revision")
        )


def many_fields(stage: Stage, count: int, *, encrypted: bool = True) -> Connection:
    """A connection with `count` fields, s0, s1 and so on."""
    specs = [FieldSpec(None, f"s{number}", f"Secret {number}", encrypted, True, "") for number in range(count)]
    return save_connection(stage.account, None, name="Many", fields=specs, actor=stage.alice)
