"""What follows from a change of live Bring Your Own Vault settings, to be confirmed before it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atoms.models import Atom, Node
from vaults.forms import KmsSettingsForm
from vaults.models import ContainerReport, KmsSettings


@dataclass(frozen=True, slots=True)
class Consequences:
    """title is a question about this act, button its verb; `token` is what the confirming button sends.

    The token names the acts and the settings' revision, so that only what was shown is confirmed.
    """

    title: str
    sentences: tuple[str, ...]
    button: str
    token: str


# By act: the question, what the containers will do with how many values, what else follows, the verb.
WORDS: Final = {
    "off": (
        "Turn off Bring Your Own Vault for {}?",
        "re-encrypt {} with a key of the hosted vault.",
        (
            "Your vault then no longer protects them: revoking your token cuts nothing off any more.",
            "The stored properties file stays, so that you can turn it on again.",
        ),
        "Turn off",
    ),
    "replace": (
        "Replace the properties file of {}?",
        "check the vault the new file names, then re-encrypt {} with its key.",
        (
            "Keep the present token alive until the panel shows the switch done: a wrapped store opens with it only.",
            "The present file is deleted; nobody can read it again.",
        ),
        "Replace",
    ),
    "unwrap": (
        "Keep a plaintext data key on the containers of {}?",
        "re-encrypt {} and keep the data key in a file of mode 0600.",
        ("Who copies a container's disk can then open them, whatever you revoke at your vault.",),
        "Keep a plaintext key",
    ),
}


def consequences_of(atom: Atom, current: KmsSettings, form: KmsSettingsForm) -> Consequences | None:
    """None when nothing live is turned off or replaced."""
    if not current.is_byov:
        return None
    asked = form.cleaned_data
    if not asked["byov"]:
        return _of(atom, current, "off")
    if asked["file"]:
        return _of(atom, current, "replace")
    if current.wrapped and not asked["wrapped"]:
        return _of(atom, current, "unwrap")
    return None


def _of(atom: Atom, current: KmsSettings, act: str) -> Consequences:
    reports = list(ContainerReport.objects.filter(node__atom=atom).exclude(node__state=Node.State.REVOKED))
    title, does, follows, button = WORDS[act]
    if not reports:
        first = f"No container of {atom.name} holds anything yet."
        return Consequences(title.format(atom.name), (first, *follows), button, f"{act}-{current.revision}")
    values = max(report.values for report in reports)
    held = f"{values} value{'' if values == 1 else 's'}"
    first = f"{len(reports)} container{'' if len(reports) == 1 else 's'} of {atom.name} will {does.format(held)}"
    until = "Until that is done it goes on working from its present store. No value has to be entered again."
    button = f"{button} and re-encrypt {held}"
    return Consequences(title.format(atom.name), (first, *follows, until), button, f"{act}-{current.revision}")
