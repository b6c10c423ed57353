"""Durable work: a row says what has to be done, who asked, how far it is and who is on it.

The row, not the queue, owns the work: Celery is only told the id. Whatever is lost on the way (Redis, a worker, a
message) is found again by a worker's clock through `due()` (operations/clock.py).
"""

import math
import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts import signing
from accounts.access import is_administrator
from accounts.keyring import PROCESSES, SIGNATURE_BYTES
from accounts.models import Account, Membership, User
from accounts.rows import WEB, SignedModel, message_of

LEASE = timedelta(seconds=60)  # longer than any single step; progress() renews it
CURRENT = timedelta(days=1)  # from its time on a request may wait so long for a worker that takes it up


class OperationQuerySet(models.QuerySet["Operation"]):
    def due(self, since: timedelta = timedelta()) -> "OperationQuerySet":
        """What somebody should be working on and nobody is, and that for so long already."""
        then = timezone.now() - since
        ready = Q(state__in=(Operation.State.PENDING, Operation.State.WAITING), run_after__lte=then)
        abandoned = Q(state=Operation.State.RUNNING, lease_until__lt=then)
        return self.filter(ready | abandoned)

    def held(self) -> "OperationQuerySet":
        """What a worker that is alive is working on."""
        return self.filter(state=Operation.State.RUNNING, lease_until__gte=timezone.now())

    def unfinished(self) -> "OperationQuerySet":
        return self.filter(state__in=Operation.UNFINISHED)

    def visible_to(self, membership: Membership) -> "OperationQuerySet":
        """For an Administrator all; for others without those that tell of environments they do not see, deleted ones too,
        and without those about the whole account while any environment is hidden from them."""
        account = membership.account
        operations = self.filter(account=account)
        if is_administrator(membership):
            return operations
        seen = account.environments.visible_to(membership).values_list("pk", flat=True)
        told = Q(environment_id__in=seen) | Q(environment_id=None)
        if account.environments.exclude(pk__in=seen).exists():
            told &= ~Q(subject_id=account.pk)  # what is about all of it tells the names of all
        return operations.filter(told)

    def about(self, subject_id: uuid.UUID | str) -> "OperationQuerySet":
        return self.filter(subject_id=subject_id)


class Operation(SignedModel):
    """One piece of durable work: what has to be done, who asked for it, how far it is and which worker holds it.

    pending ─claim─▶ running ─▶ done │ failed │ cancelled │ waiting ─claim─▶ running …
    claim() is one UPDATE, so that of two workers one has it; it holds it by `lease` until `lease_until`, and whatever it
    writes under a lease that is another's by then changes nothing. failed and cancelled may be resumed (─▶ pending).

    Signed is what was asked for, by the process that asked; what a person asked for, by web. Whoever takes it up the first time
    must do so before `current_until`, and each turn signs by when the next one comes: a request of an earlier day, and what ended
    then, is none any more when it is put back.
    """

    SIGNED = ("account_id", "kind", "subject_id", "requested_by_id", "queue", "current_until")
    SIGNERS = PROCESSES
    REMEMBERED = False  # it is current for a day, or taken up

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        RUNNING = "running", "Running"
        WAITING = "waiting", "Waiting"  # for the vault, until run_after
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Queue(models.TextChoices):
        INTERACTIVE = "interactive", "Interactive"  # somebody waits for it
        BULK = "bulk", "Bulk"  # gives way to people
        SHRED = "shred", "Shred"  # done by the shred worker alone, whose credentials no other process has
        WATCH = "watch", "Watch"  # done by the watch alone, likewise; nobody tells it of them, it looks by itself

    UNFINISHED = (State.PENDING, State.RUNNING, State.WAITING)

    account = models.ForeignKey(Account, models.CASCADE, related_name="operations")
    kind = models.CharField(max_length=64)  # the name its handler is registered under
    title = models.CharField(max_length=200)
    subject_id = models.UUIDField()
    environment_id = models.UUIDField(null=True)  # which environment the title tells of: who does not see it, not this
    requested_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    queue = models.CharField(max_length=16, choices=Queue.choices, default=Queue.INTERACTIVE)
    exclusive_group = models.CharField(max_length=16, blank=True)  # those of an account's group run one after the other
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=1)
    failed = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0)
    troubles = models.PositiveIntegerField(default=0)  # attempts in a row that came to nothing
    details = models.JSONField(default=dict)  # facts for the receipt: names, counts, versions; never a secret
    concluded_at = models.DateTimeField(null=True)  # when its result went to the receipt and the audit log, once
    cancel_asked_at = models.DateTimeField(null=True)
    run_after = models.DateTimeField(default=timezone.now)
    current_until = models.DateTimeField()
    taken_up_until = models.DateTimeField(null=True)  # a worker took it up, and goes on before this
    taken_up = models.BinaryField(max_length=SIGNATURE_BYTES, default=bytes)  # the worker's signature over that
    lease_until = models.DateTimeField(null=True)
    lease = models.UUIDField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_sentence = models.CharField(max_length=300, blank=True)
    requested_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = OperationQuerySet.as_manager()
    turn_ends = math.inf  # monotonic seconds; of the worker that has claimed it

    class Meta:
        ordering = ["-requested_at"]
        indexes = [models.Index(fields=["state", "run_after"]), models.Index(fields=["account", "subject_id"])]

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"

    @property
    def is_finished(self) -> bool:
        return self.state not in self.UNFINISHED

    @property
    def is_resumable(self) -> bool:
        return self.state in (self.State.FAILED, self.State.CANCELLED)

    @property
    def left(self) -> str:
        """How long it still takes, in words; "" before that can be told."""
        seconds = self.seconds_left
        if seconds is None:
            return ""
        if seconds < 60:
            return "less than a minute left"
        return f"about {seconds // 60} min left" if seconds < 5400 else f"about {round(seconds / 3600)} h left"

    @classmethod
    def claim(cls, operation_id: uuid.UUID | str, queues: Collection[str] = Queue.values) -> "Operation | None":
        """Take the lease if nobody has it; None when there is nothing to do. One UPDATE decides, so two workers cannot.

        queues: those that this worker works for; it leaves alone what is of another.

        One of an exclusive group is left alone while another of the same account and group is being worked on.
        """
        mine = cls.objects.filter(pk=operation_id, queue__in=queues)
        asked = mine.values_list("account_id", "exclusive_group").first()
        if asked is None:
            return None
        account_id, group = asked
        with transaction.atomic():
            if group:
                cls.objects.select_for_update(no_key=True).only("pk").filter(pk=operation_id).first()
                Account.objects.select_for_update(no_key=True).only("pk").get(pk=account_id)
                others = cls.objects.held().filter(account=account_id, exclusive_group=group)
                if others.exclude(pk=operation_id).exists():
                    return None
            taken = cls._take(operation_id)
        if not taken:
            return None
        return cls.objects.select_related("account", "requested_by").get(pk=operation_id)

    @classmethod
    def _take(cls, operation_id: uuid.UUID | str) -> bool:
        now, lease = timezone.now(), uuid.uuid4()
        due = cls.objects.due().filter(pk=operation_id)
        return bool(
            due.update(
                state=cls.State.RUNNING,
                lease=lease,
                lease_until=now + LEASE,
                attempts=F("attempts") + 1,
                started_at=models.functions.Coalesce("started_at", now),
            )
        )

    def take_up(self) -> bool:
        """Note under this process's signature that the request was met while it was current. False: it is not."""
        now = timezone.now()
        signed = self.taken_up_until is not None and signing.signer_of(self._taking_up(), self.taken_up) is not None
        if now > (self.taken_up_until if signed and self.taken_up_until else self.current_until):
            return False
        return bool(self._held().update(**self._going_on_before(now + CURRENT)))

    def _going_on_before(self, until: datetime) -> dict[str, Any]:
        """The columns that say so."""
        self.taken_up_until = until
        self.taken_up = signing.sign(signing.own_process(), self._taking_up())
        return {"taken_up_until": until, "taken_up": self.taken_up}

    def _taking_up(self) -> bytes:
        return message_of("operation taken up", self.pk, self.current_until, self.taken_up_until)

    def sign_anew(self, process: str) -> bool:
        """What was asked for, as for every signed row; and, as the worker, that it was taken up."""
        former = bytes(self.taken_up)
        if signing.signer_of(self._taking_up(), former) == process and not signing.is_current(process, former):
            new = signing.sign(process, self._taking_up())
            Operation.objects.filter(pk=self.pk, taken_up=former).update(taken_up=new)
        return super().sign_anew(process)

    def signed_by(self) -> str | None:
        process = super().signed_by()
        return process if self.requested_by_id is None or process in WEB else None

    def _held(self) -> models.QuerySet["Operation"]:
        """This row, as long as our lease is the current one."""
        return Operation.objects.filter(pk=self.pk, lease=self.lease, state=self.State.RUNNING)

    def progress(self, done: int, total: int | None = None, failed: int = 0) -> bool:
        """Write progress and renew the lease. False: the lease is another worker's now, so stop."""
        changes: dict[str, Any] = {"done": done, "failed": failed, "lease_until": timezone.now() + LEASE}
        if total is not None:
            changes["total"] = total
        return bool(self._held().update(**changes))

    def note(self, **facts: Any) -> bool:
        """Add facts for the receipt; renews the lease. False as with progress()."""
        self.details = {**self.details, **facts}
        return bool(self._held().update(details=self.details, lease_until=timezone.now() + LEASE))

    def conclude(self, **facts: Any) -> bool:
        """As note(), and once: the result is told. Called in the transaction of the audit entry that tells it too."""
        if not self.note(**facts):
            return False
        self.concluded_at = timezone.now()
        return bool(self._held().update(concluded_at=self.concluded_at))

    def is_cancel_asked(self) -> bool:
        return Operation.objects.filter(pk=self.pk).exclude(cancel_asked_at=None).exists()

    def finish(self) -> bool:
        return self._end(state=self.State.DONE, done=F("total"), error_code="", error_sentence="")

    def fail(self, code: str, sentence: str) -> bool:
        return self._end(state=self.State.FAILED, error_code=code, error_sentence=sentence[:300])

    def end_cancelled(self) -> bool:
        return self._end(state=self.State.CANCELLED, error_code="", error_sentence="")

    def _end(self, **changes: Any) -> bool:
        return bool(self._held().update(finished_at=timezone.now(), lease=None, lease_until=None, **changes))

    def wait(self, until: datetime, code: str, sentence: str, *, trouble: bool = True) -> bool:
        """Give the lease back and go on at `until`; trouble: this attempt came to nothing."""
        return bool(
            self._held().update(
                state=self.State.WAITING,
                run_after=until,
                lease=None,
                lease_until=None,
                troubles=F("troubles") + 1 if trouble else 0,
                error_code=code,
                error_sentence=sentence[:300],
                **self._going_on_before(until + CURRENT),
            )
        )

    @property
    def seconds_left(self) -> int | None:
        """About how long a running one still takes, from its pace so far; None before that can be told."""
        if self.state != self.State.RUNNING or self.started_at is None or not 0 < self.done < self.total:
            return None
        return round((timezone.now() - self.started_at).total_seconds() / self.done * (self.total - self.done))


class Load(models.Model):
    """One row: until when bulk work keeps out of the way, because people wait for the vault."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"load until {self.until}"
