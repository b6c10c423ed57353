"""An Atom's KMS settings and its properties file."""

from django.db import models
from django.utils import timezone

from accounts.models import User
from accounts.rows import WEB, SignedModel
from atoms.models import Atom
from vaults.models.kms import DataKey


class KmsSettings(SignedModel):
    """How one Atom's secrets are sealed at rest. No row, or no `sealed`, means that nobody ever changed them: hosted vault.

    What the container obeys is `sealed`, a kmscore.sealed.kms_settings.KmsDocument sealed for the Atom; the columns beside it are
    what people are shown, and carry the portal's signature, so that no page repeats what was written past it.
    """

    SIGNED = ("atom_id", "mode", "wrapped", "revision", "data_key_id")
    SIGNERS = WEB

    class Mode(models.TextChoices):
        HOSTED = "hosted", "Hosted vault"
        BYOV = "byov", "Bring Your Own Vault"

    atom = models.OneToOneField(Atom, models.CASCADE, related_name="kms_settings")
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.HOSTED)
    wrapped = models.BooleanField(default=False)
    revision = models.PositiveIntegerField(default=1)
    data_key = models.ForeignKey(DataKey, models.PROTECT, null=True, related_name="+")
    sealed = models.BinaryField(null=True)
    changed_at = models.DateTimeField(auto_now=True)
    changed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(wrapped=False) | models.Q(mode="byov"), name="wrapped_needs_bring_your_own_vault"
            )
        ]

    def __str__(self) -> str:
        return f"KMS settings of {self.atom}"

    @property
    def is_byov(self) -> bool:
        return self.mode == self.Mode.BYOV


class PropertiesFile(SignedModel):
    """The properties file of an Atom's own vault: sealed for the Atom, so that the portal cannot read it again.

    facts: what kmscore.byov.properties.facts_of says may be shown. content_mac: HMAC of the content under the row key, which tells
    the same file from another one without keeping it. The facts are signed, for they become commands on a page.
    """

    SIGNED = ("atom_id", "name", "revision", "facts", "data_key_id")
    SIGNERS = WEB

    atom = models.OneToOneField(Atom, models.CASCADE, related_name="properties_file")
    name = models.CharField(max_length=120)
    revision = models.PositiveIntegerField()  # of the settings it was uploaded with
    data_key = models.ForeignKey(DataKey, models.PROTECT, related_name="+")
    sealed = models.BinaryField()
    content_mac = models.BinaryField(max_length=32)
    facts = models.JSONField(default=dict)
    uploaded_at = models.DateTimeField(default=timezone.now)
    uploaded_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    def __str__(self) -> str:
        return self.name
