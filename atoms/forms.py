"""What people may type about environments and Atoms."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from accounts.models import Account, Membership, Role
from atoms.models import Atom, Environment, InstallerToken


class NamedForm(forms.ModelForm):
    """A row of an account with a name that is unique there; the account is the view's, never the browser's."""

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.account = account

    def _get_validation_exclusions(self) -> set[str]:
        exclusions: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return exclusions - {"account"}  # so that the name's uniqueness is checked within it

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if NON_FIELD_ERRORS in self.errors:  # a constraint of the row; all of them are about the name
            self.add_error("name", self.errors.pop(NON_FIELD_ERRORS).as_data())

    def clean_name(self) -> str:
        name = " ".join(self.cleaned_data["name"].split())
        if not name.isprintable():
            raise ValidationError("A name cannot contain control characters.")
        return name


class EnvironmentForm(NamedForm):
    class Meta:
        model = Environment
        fields = ["name", "classification"]
        help_texts = {
            "name": "At most 80 characters.",
            "classification": "Settled now: it cannot be changed later.",
        }


class EnvironmentRenameForm(NamedForm):
    class Meta:
        model = Environment
        fields = ["name"]


class EnvironmentRolesForm(forms.Form):
    roles = forms.ModelMultipleChoiceField(
        queryset=Role.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Roles with access",
        help_text="Members with none of these roles do not see the environment. With none chosen, every member sees it. "
        "Administrators always do.",
    )

    seen_by = forms.CharField(required=False, widget=forms.HiddenInput)  # as the page showed it; none is of no page

    def __init__(self, *args: Any, roles: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        genuine = [role.pk for role in roles if role.has_valid_signature()]  # of a changed one nobody knows which it is
        self.fields["roles"].queryset = roles.filter(pk__in=genuine)  # type: ignore[attr-defined]


VALIDITY = [
    (30, "30 minutes"),
    (60, "1 hour"),
    (240, "4 hours"),
    (480, "8 hours"),
    (InstallerToken.MINUTES[1], "24 hours"),
]


class InstallerTokenForm(forms.Form):
    minutes = forms.TypedChoiceField(coerce=int, choices=VALIDITY, initial=60, label="Token valid for")


class EnvironmentField(forms.ChoiceField):
    """Environments by the names that are signed, since people choose by them: what was changed past the portal is not offered."""

    def offer(self, environments: Iterable[Environment], membership: Membership) -> None:
        self.offered = {str(one.pk): one for one in environments if one.is_seen_by(membership)}
        first = (
            "",
            "Choose…" if self.required else "Unattached",
        )  # a grant is nobody's first choice: Enter alone makes none
        self.choices = [first, *((pk, one.name) for pk, one in self.offered.items())]

    def clean(self, value: Any) -> Environment | None:
        return self.offered.get(str(super().clean(value)))


class AtomForm(NamedForm):
    environment = EnvironmentField(
        required=False,
        help_text="Its containers may read what this environment holds. You can attach it later.",
    )
    minutes = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        choices=[*VALIDITY, ("", "Make no token now")],
        initial=60,
        label="Installer token valid for",
        help_text="It lets one machine enrol, once, and is shown on the next page for ten minutes.",
    )

    class Meta:
        model = Atom
        fields = ["name", "type"]
        help_texts = {"type": "An Atom runs on one machine, a Molecule on several nodes, a Cloud serves many accounts."}

    def __init__(self, *args: Any, membership: Membership, may_attach: bool, **kwargs: Any) -> None:
        super().__init__(*args, account=membership.account, **kwargs)
        if may_attach:
            self.fields["environment"].offer(Environment.objects.visible_to(membership), membership)  # type: ignore[attr-defined]
        else:
            del self.fields["environment"]


class AtomRenameForm(NamedForm):
    class Meta:
        model = Atom
        fields = ["name"]


class AttachForm(forms.Form):
    environment = EnvironmentField()

    def __init__(self, *args: Any, membership: Membership, atom: Atom, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = atom.environment
        others = Environment.objects.visible_to(membership).exclude(pk__in=[current.pk] if current else [])
        self.fields["environment"].offer(others, membership)  # type: ignore[attr-defined]


LOSSES_CHANGED = "Nothing was deleted. What goes is not what you confirmed: read again what follows, then confirm it."


class ConfirmNameForm(forms.Form):
    """Typed confirmation: the name of what will be deleted. `lost` says which losses were shown, where there are some."""

    name = forms.CharField(max_length=80, strip=True)
    lost = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected
        self.fields["name"].label = f"Type {expected} to confirm"
        self.fields["name"].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}

    def clean_name(self) -> str:
        if self.cleaned_data["name"] != self.expected:
            raise ValidationError(f"This is not the name. Type {self.expected} exactly.")
        return self.expected


class TreeFilterForm(forms.Form):
    """Search and filter of the tree; all of it is in the address."""

    q = forms.CharField(required=False, max_length=80, label="Search Atoms and environments")
    type = forms.ChoiceField(required=False, choices=[("", "All types"), *Atom.Type.choices])
    status = forms.ChoiceField(
        required=False,
        choices=[
            ("", "Any status"),
            (Atom.Status.ONLINE, "Online"),
            (Atom.Status.OFFLINE, "Offline"),
            (Atom.Status.WARNING, "Cluster issues"),
            (Atom.Status.REVOKED, "Revoked"),
            (Atom.Status.UNKNOWN, "Never seen"),
        ],
    )
