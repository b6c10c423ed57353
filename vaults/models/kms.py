"""Keys: the Key Management Service of an account, recipients and their data keys."""

from django.db import models
from django.utils import timezone

from accounts.models import Account, User
from accounts.rows import SignedModel, UuidModel
from atoms.models import Environment

DOCUMENT_ENTRIES = 500  # data keys a vault document holds; 8,400 would exceed what the vault stores in one


class KmsAccount(SignedModel):
    """The Key Management Service of an account; no row means it was never activated.

    Signed: a writer at the database can neither end its grace period early nor make a disabled one look active.
    """

    SIGNED = ("account_id", "state", "since", "ends_at")

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        DISABLED = "disabled", "Disabled"  # its roles are gone from the vault, nothing else is; until `ends_at`
        SHREDDED = "shredded", "Shredded"  # its keys are gone, or are going just now

    class Rotation(models.IntegerChoices):
        OFF = 0, "Off"
        MONTHLY = 30, "Every 30 days"
        QUARTERLY = 90, "Every 90 days"
        YEARLY = 365, "Every 365 days"

    account = models.OneToOneField(Account, models.CASCADE, related_name="kms")
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    since = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(null=True)  # of the grace period
    changed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    rotate_every = models.PositiveSmallIntegerField(choices=Rotation.choices, default=Rotation.OFF)  # days
    rotated_at = models.DateTimeField(null=True)  # when all in-transit keys were last rotated, or the schedule began

    def __str__(self) -> str:
        return f"KMS of {self.account}: {self.state}"

    @staticmethod
    def is_active(account: Account) -> bool:
        kms = getattr(account, "kms", None)
        return kms is not None and kms.state == KmsAccount.State.ACTIVE and kms.is_genuine()


class Recipient(models.Model):
    """An environment or an Atom as the hosted vault knows it: its UUID names its key, its role and its documents."""

    class Kind(models.TextChoices):
        ENVIRONMENT = "environment", "Environment"
        ATOM = "atom", "Atom"

    id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(Account, models.CASCADE, related_name="recipients")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    in_transit_version = models.PositiveIntegerField(default=1)  # newest version of its key in intransit/
    oldest_version = models.PositiveIntegerField(default=1)  # the vault refuses what earlier ones wrapped
    rotated_at = models.DateTimeField(null=True)
    data_keys_made = models.PositiveIntegerField(default=0)  # decides into which document the next one goes
    provisioned_at = models.DateTimeField(default=timezone.now)
    shredded_at = models.DateTimeField(null=True)  # its keys and documents are gone from the vault

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def mount(self) -> str:
        """Where its role is."""
        return "atoms" if self.kind == self.Kind.ATOM else "environments"

    def next_document(self) -> int:
        return self.data_keys_made // DOCUMENT_ENTRIES


class DataKey(UuidModel):
    """A data key by its id. The wrapped key itself is only in the hosted vault, in `datakeys/<recipient>/<document>`."""

    class Loss(models.TextChoices):
        SHREDDED = "shredded", "Shredded"  # on purpose: containers drop what it sealed
        RESTORED = "restored", "Missing after a restore"  # containers keep what they hold

    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="data_keys")
    document = models.PositiveIntegerField()
    key_version = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    unused_since = models.DateTimeField(null=True)  # when it was first seen that nothing is sealed with it any more
    retired_at = models.DateTimeField(null=True)  # left the vault's documents
    # The vault has it no more, and what was sealed with it has to be entered again.
    lost_at = models.DateTimeField(null=True)
    lost_because = models.CharField(max_length=16, choices=Loss.choices, blank=True)

    class Meta:
        indexes = [models.Index(fields=["recipient", "document"])]

    def __str__(self) -> str:
        return f"data key {self.pk}"


class Loss(UuidModel):
    """How many values of an environment were lost at once: the whole of which the re-entry worklist shows the rest."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="losses")
    at = models.DateTimeField()
    because = models.CharField(max_length=16, choices=DataKey.Loss.choices)
    count = models.PositiveIntegerField()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.count} values of {self.environment} lost"
