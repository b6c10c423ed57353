"""What is kept of rotations and of shredding."""

from django.db import models
from django.utils import timezone

from accounts import signing
from accounts.models import Account, User
from accounts.rows import WEB, SignedModel, UuidModel, canonical_json
from kmscore.sealed.sequence import sequence
from operations.models import Operation
from vaults.models.kms import Recipient


class RecipientRotation(UuidModel):
    """One recipient's part of a rotation: where it is, so that a killed worker goes on from there."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        REWRAPPED = "rewrapped", "Rewrapped"  # until settle_at: a save in flight may still add an old one
        SETTLED = "settled", "Settled"  # earlier versions are refused by the vault
        FAILED = "failed", "Failed"

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="rotations")
    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="rotations")
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    from_version = models.PositiveIntegerField(null=True)  # of its in-transit key, before
    to_version = models.PositiveIntegerField(null=True)
    rewrapped = models.PositiveIntegerField(default=0)
    late = models.PositiveIntegerField(default=0)  # rewrapped on the second reading
    broken = models.PositiveIntegerField(default=0)  # the vault could not rewrap these
    settle_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "recipient"], name="rotated_once")]
        ordering = ["recipient_id"]

    def __str__(self) -> str:
        return f"rotation of {self.recipient}: {self.state}"


class ShredApproval(SignedModel):
    """One administrator's word that an account's keys may be destroyed at once. Two people's are needed."""

    SIGNED = ("operation_id", "account_id", "user_id", "given_at")
    SIGNERS = WEB

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="shred_approvals")
    account = models.ForeignKey(Account, models.CASCADE, related_name="+")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    given_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "user"], name="approved_once")]

    def __str__(self) -> str:
        return f"{self.user} approves {self.operation_id}"


class ShredProof(SignedModel):
    """What the vault answered to a rewrap of one of a recipient's wrapped data keys, before and after its key was deleted."""

    SIGNED = ("operation_id", "recipient_id", "data_key", "before", "after", "data_keys", "shredded_at")
    SIGNERS = ("shredder",)
    REMEMBERED = False  # it grants nothing

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="shred_proofs")
    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="+")
    data_key = models.UUIDField(null=True)  # whose wrapped form was tried; None: it never had one
    before = models.PositiveSmallIntegerField(null=True)  # status
    after = models.PositiveSmallIntegerField(null=True)
    data_keys = models.PositiveIntegerField(default=0)  # how many its documents held
    shredded_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "recipient"], name="shredded_once")]
        ordering = ["recipient_id"]

    def __str__(self) -> str:
        return f"shred proof of {self.recipient}"


class ShredCertificate(SignedModel):
    """What was destroyed, when, on whose word, and what remains elsewhere. Kept for good and never changed.

    Signed by the process that destroys: whoever has the key list verifies what a downloaded one says.
    """

    SIGNED = ("document",)
    SIGNERS = ("shredder",)
    REMEMBERED = False  # written once

    account = models.ForeignKey(Account, models.PROTECT, related_name="shred_certificates")
    operation = models.OneToOneField(Operation, models.PROTECT, related_name="shred_certificate")
    made_at = models.DateTimeField(default=timezone.now)
    document = models.JSONField()

    class Meta:
        ordering = ["-made_at"]

    def __str__(self) -> str:
        return f"shred certificate of {self.account}"

    def signed_bytes(self) -> bytes:
        """The sequence of the format's name and the document, as JSON with its names sorted."""
        return sequence([b"kms-shred-certificate/1", canonical_json(self.document)])

    def signed_by(self) -> str | None:
        """An ended key's signature too: nobody changes a certificate."""
        process = signing.signer_of(self.signed_bytes(), self.signature, for_good=True)
        return process if process in self.SIGNERS else None

    def sign_anew(self, process: str) -> bool:
        return False
