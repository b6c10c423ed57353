"""What: connections with their fields, and what each environment holds for them."""

from dataclasses import replace
from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from accounts.models import Account, User
from accounts.rows import WEB, RowTampered, SignedModel, UuidModel
from atoms.models import Environment
from extensions.listing import NOTHING, Listed, Listing, decode, listed_row
from kmscore.sealed.manifest import Entry, Form, digest
from vaults.models import DataKey

MAX_VALUE_BYTES = 64 * 1024
MAX_SAVE_BYTES = 4 * 1024 * 1024
MAX_SAVE_FIELDS = 2_000


class Connection(SignedModel):
    """A connection component of the account."""

    SIGNED = ("account_id", "name")
    SIGNERS = WEB

    account = models.ForeignKey(Account, models.CASCADE, related_name="connections")
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "account", Lower("name"), name="connection_name_once", violation_error_message="This name is taken."
            )
        ]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def version(self) -> str:
        """Changes with every edit: what a form was filled in for, so that it cannot undo another person's edit."""
        return self.changed_at.isoformat()


class FieldTampered(RowTampered):
    """A connection or one of its fields was; nothing of the account's is saved before it is back or deleted."""

    mend = (
        "It is a connection or one of its fields. Tell the portal's operator, who may be able to put it back. If not, delete that "
        "connection under Build; where that is refused, let go of what an environment holds for it first."
    )


class ListTampered(RowTampered):
    """The signed list of what an environment holds was, or is gone; no connection of the account changes before that is mended."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(f"The list of what {environment.name} holds is not the one that was saved.")
        self.mend = (
            f"It is the list of what {environment.name} holds. Tell the portal's operator, who may be able to put it back. "
            "If not, detach its Atoms, delete that environment and make it anew."
        )


class FieldQuerySet(models.QuerySet["Field"]):
    def verified(self) -> "list[Field]":
        """The fields with their connections. Raises FieldTampered when one of either was changed past the application."""
        fields: list[Field] = list(self.select_related("connection"))
        connections = {field.connection_id: field.connection for field in fields}.values()
        for row in (*connections, *fields):
            if not row.has_valid_signature():
                raise FieldTampered(f"{row._meta.label} {row.pk} does not bear the portal's signature.")
        return fields

    def genuine(self) -> "list[Field]":
        """Those that were not, nor their connections."""
        fields: list[Field] = list(self.select_related("connection"))
        return [field for field in fields if field.has_valid_signature() and field.connection.has_valid_signature()]


class Field(SignedModel):
    """A field of a connection. Its id (key) and whether it is encrypted are settled when it is added.

    `component_value` is the connection component's own value of a plain field; encrypted ones have none here, so that the
    portal holds no secret outside an environment. Signed, with all that a person decides by: one that was made plain or
    labelled as another would have the next secret saved in the clear, another component value would send programs elsewhere.
    """

    SIGNED = ("connection_id", "key", "label", "encrypted", "extensible", "component_value")
    SIGNERS = WEB

    connection = models.ForeignKey(Connection, models.CASCADE, related_name="fields")
    key = models.CharField(
        "field id",
        max_length=64,
        validators=[
            RegexValidator(r"^[A-Za-z][A-Za-z0-9_.-]*$", "Start with a letter; then letters, digits, _ . and -.")
        ],
    )
    label = models.CharField(max_length=80)
    encrypted = models.BooleanField(default=False)
    extensible = models.BooleanField(default=True)
    component_value = models.TextField(blank=True)
    position = models.PositiveIntegerField(default=0)

    objects = FieldQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "key"], name="field_once"),
            models.CheckConstraint(
                condition=Q(encrypted=False) | Q(component_value=""), name="no_secret_in_a_component"
            ),
        ]
        ordering = ["position", "key"]

    def __str__(self) -> str:
        return f"{self.connection} / {self.label}"

    @property
    def path(self) -> tuple[str, ...]:
        return ("connection", str(self.connection_id), self.key)


class HeldRow(UuidModel):
    """Shape of what an environment holds: sealed, plain, or the component's. `revision` is the environment's at its last change.

    It is what the signed list says of it, or it counts for nothing (extensions/listing.py).
    """

    FORMS: ClassVar[list[tuple[Form, str]]] = [
        ("sealed", "Sealed"),
        ("plain", "Plain"),
        ("component", "Component value"),
    ]

    revision = models.PositiveBigIntegerField()
    plain = models.TextField(blank=True)
    set_at = models.DateTimeField()

    class Meta:
        abstract = True


class ExtensionValue(HeldRow):
    """One field's value in one environment.

    form `sealed`: ciphertext and its data key. `plain`: the environment's own plain value. `component`: a plain field that
    uses the connection component's value, with a copy of it in `plain`. An encrypted field has no component value: a row
    that says so all the same (saves could write it once) is a missing value everywhere. A field leaves after its values, so
    that its deletion takes none with it that nobody named.
    """

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="extension_values")
    field = models.ForeignKey(Field, models.PROTECT, related_name="extension_values")
    form = models.CharField(max_length=16, choices=HeldRow.FORMS)
    sealed = models.BinaryField(null=True)
    data_key = models.ForeignKey(DataKey, models.PROTECT, null=True, related_name="extension_values")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "field"], name="value_once"),
            models.CheckConstraint(
                condition=Q(form="sealed", sealed__isnull=False, data_key__isnull=False, plain="")
                | (~Q(form="sealed") & Q(sealed=None, data_key=None)),
                name="sealed_has_key_and_nothing_plain",
            ),
        ]
        indexes = [models.Index(fields=["environment", "revision"])]

    def __str__(self) -> str:
        return f"{self.field} in {self.environment} ({self.form})"

    @property
    def listed(self) -> Listed:
        return listed_row(self.form, self.revision, int(self.set_at.timestamp()), self.plain, self.data_key_id)


class ProcessProperty(HeldRow):
    """A dynamic process property: a plain name and value of one environment."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="process_properties")
    name = models.CharField(max_length=200)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["environment", "name"], name="property_once")]
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} in {self.environment}"

    @property
    def listed(self) -> Listed:
        return listed_row("plain", self.revision, int(self.set_at.timestamp()), self.plain, None)

    @property
    def path(self) -> tuple[str, ...]:
        return ("property", self.name)


class EnvironmentManifest(SignedModel):
    """What an environment holds, as it was saved: `listed` for the portal (extensions/listing.py), signed; and the same sealed for
    the containers, when there is a Key Management Service."""

    SIGNED = ("environment_id", "revision", "listed")
    SIGNERS = WEB

    environment = models.OneToOneField(Environment, models.CASCADE, related_name="manifest")
    revision = models.PositiveBigIntegerField()
    listed = models.TextField()
    data_key = models.ForeignKey(DataKey, models.PROTECT, null=True, related_name="manifests")
    sealed = models.BinaryField(null=True)

    def __str__(self) -> str:
        return f"manifest {self.revision} of {self.environment}"


def listed_in(environment: Environment) -> Listing:
    """What was saved there; one query. Raises ListTampered when the list is gone, was changed, or is of another revision."""
    manifest = EnvironmentManifest.objects.filter(environment=environment).defer("sealed").first()
    if manifest is None and not (environment.extensions_revision or environment.verified().has_list):
        return NOTHING
    if (
        manifest is None
        or manifest.environment_id != environment.pk
        or not manifest.has_valid_signature()
        or manifest.revision != environment.extensions_revision
    ):
        raise ListTampered(environment)
    return decode(manifest.listed)


def with_names(listing: Listing) -> Listing:
    """The list with the addresses of who saved what, "" of those who are no users any more; one query."""
    known = {
        str(pk): email
        for pk, email in User.objects.filter(pk__in={*listing.by.values()} - {""}).values_list("pk", "email")
    }
    return replace(listing, by={path: known.get(by, "") for path, by in listing.by.items()})


def entry(
    path: tuple[str, ...], name: str, form: Form, encrypted: bool, revision: int, plain: str, data_key: str
) -> Entry:
    """The manifest's entry for a held row: a plain field with the component's value is delivered, and listed, as plain.

    form `lost`: a sealed value whose data key the vault has lost. An encrypted field with the form `component` is `missing`.
    """
    if form == "sealed" or form == "lost":
        return Entry(form, path, name, revision, data_key)
    if form == "component" and encrypted:
        return Entry("missing", path, name, revision)
    return Entry("plain", path, name, revision, digest(plain))
