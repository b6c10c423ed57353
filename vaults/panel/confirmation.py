"""What follows from a change of live Bring Your Own Vault settings, to be confirmed before it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atoms.models import Atom, Node
from kmscore.wording import plural
from vaults.models import ContainerReport, KmsSettings
from vaults.panel.form import KmsSettingsForm
from vaults.panel.settings import content_mac


@dataclass(frozen=True, slots=True)
class Consequences:
    """title is a question about this act, button its verb; `token` is what the confirming button sends.

    The token names the acts, the settings' revision and the file, so that only what was shown is confirmed.
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
    """Of everything live that is turned off or replaced; None when nothing is."""
    asked, acts = form.cleaned_data, list[str]()
    if current.is_byov and not asked["byov"]:
        acts = ["off"]
    elif current.is_byov:
        acts += ["replace"] if form.upload else []
        acts += ["unwrap"] if current.wrapped and not asked["wrapped"] else []
    return _of(atom, current, acts, _fingerprint(atom, form)) if acts else None


def _fingerprint(atom: Atom, form: KmsSettingsForm) -> str:
    """Of the chosen file: what is confirmed for one is not confirmed for another."""
    return content_mac(atom, form.upload).hex()[:16] if form.upload else "kept"


def _of(atom: Atom, current: KmsSettings, acts: list[str], file: str) -> Consequences:
    reports = list(ContainerReport.objects.filter(node__atom=atom).exclude(node__state=Node.State.REVOKED))
    words = [WORDS[act] for act in acts]
    title, token = words[0][0].format(atom.name), f"{'+'.join(acts)}-{current.revision}-{file}"
    follows = tuple(sentence for _, _, sentences, _ in words for sentence in sentences)
    button = ", ".join([words[0][3], *(verb.lower() for *_, verb in words[1:])])
    if not reports:
        nobody = f"No container of {atom.name} holds anything yet."
        return Consequences(title, (nobody, *follows), button, token)
    values = max(report.values for report in reports)
    held = f"{plural(values, 'value')}"
    who = f"{plural(len(reports), 'container')} of {atom.name} will"
    first = tuple(f"{who} {does.format(held)}" for _, does, _, _ in words)
    until = "Until that is done it goes on working from its present store. No value has to be entered again."
    return Consequences(title, (*first, *follows, until), f"{button} and re-encrypt {held}", token)
