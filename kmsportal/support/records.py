"""What the support staff may look at, column by column. Plain values, process properties and connections are not here."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.access import genuine_roles
from accounts.models import Account, AuditEntry, Membership, Role
from accounts.rows import RowTampered
from atoms.models import Atom, Environment, Node
from kmsportal.support.page import FORGED, Act, SupportPage
from kmsportal.support.site import site
from operations import actions as operations
from operations.models import Operation
from operations.work import is_cancellable
from vaults.keys.provision import activate_kms
from vaults.models import KmsSettings, LoginAlarm

BY_SUBJECT = ("operations.operation", "accounts.auditentry")


def _authenticity(row: Any) -> str:
    return "Genuine" if row.has_valid_signature() else FORGED


# -- an account's KMS --------------------------------------------------------------------------------------------------


def _activation(account: Account) -> list[str]:
    environments, atoms = account.environments.count(), account.atoms.count()
    return [
        f"The hosted vault makes keys for {environments} environments and {atoms} Atoms of {account.name}.",
        "Its members can save encrypted values from then on.",
        "Its administrators alone can disable it again.",
    ]


def _why_not_activate(account: Account) -> str:
    kms = getattr(account, "kms", None)
    return "" if kms is None else f"Its Key Management Service is {kms.get_state_display().lower()} already."


ACTIVATE = Act(
    "activate-kms",
    "Activate KMS for 1 account",
    _activation,
    _why_not_activate,
    lambda account, user: activate_kms(account, actor=user),
)


@admin.register(Account, site=site)
class AccountPage(SupportPage):
    shown = ("id", "code", "name", "created_at", "kms", "kms_since", "grace_ends")
    withheld = (
        "generation",
        "signature",
    )
    by_id = ("pk",)
    by_text = ("code",)
    account_at = ""
    found_by = "its id or code"
    acts = (ACTIVATE,)
    list_display = ("name", "code", "kms")
    list_select_related = ("kms",)
    leads_to = (
        "accounts.membership", "atoms.environment", "atoms.atom", "atoms.node", "vaults.kmssettings",
        "operations.operation", "vaults.loginalarm", "accounts.auditentry",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        return super().get_queryset(request).select_related("kms")

    def kms(self, account: Account) -> str:
        kms = getattr(account, "kms", None)
        if kms is None:
            return "Never activated"
        return kms.get_state_display() if kms.has_valid_signature() else FORGED

    def kms_since(self, account: Account) -> object:
        return getattr(getattr(account, "kms", None), "since", None)

    def grace_ends(self, account: Account) -> object:
        return getattr(getattr(account, "kms", None), "ends_at", None)


@admin.register(Membership, site=site)
class MembershipPage(SupportPage):
    noun, nouns = "member", "members"
    shown = ("id", "account", "user", "role_names", "created_at", "may_sign_in", "authenticity")
    withheld = ("generation", "signature", "roles")
    by_id = ("pk", "account_id", "user_id")
    by_text = ("account__code", "user__email")
    found_by = "its id, the id or e-mail address of the person, or the id or code of its account"
    list_display = ("user", "account", "role_names")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("account", "user").order_by("user__email", "pk")

    def role_names(self, membership: Membership) -> str:
        if not membership.has_valid_signature():
            return FORGED
        return ", ".join(sorted(str(role) for role in genuine_roles(membership))) or "No role"

    def may_sign_in(self, membership: Membership) -> str:
        return "Yes" if membership.user.is_active else "No, switched off"

    def authenticity(self, membership: Membership) -> str:
        return _authenticity(membership)


@admin.register(Environment, site=site)
class EnvironmentPage(SupportPage):
    shown = (
        "id", "account", "name", "classification", "created_at", "provisioned_at", "extensions_revision",
        "extensions_changed_at", "limited_to", "authenticity",
    )  # fmt: skip
    withheld = ("generation", "signature", "has_list", "roles")
    list_display = ("name", "account", "classification", "provisioned_at")
    list_select_related = ("account",)
    ordering = ("account_id", "name")
    leads_to = ("atoms.atom", *BY_SUBJECT)

    def limited_to(self, environment: Environment) -> str:
        """The roles whose members see it."""
        if not environment.has_valid_signature():
            return FORGED
        roles = Role.objects.filter(pk__in=environment.roles)
        return ", ".join(sorted(map(str, roles))) or "Seen by every member"

    def authenticity(self, environment: Environment) -> str:
        return _authenticity(environment)


@admin.register(Atom, site=site)
class AtomPage(SupportPage):
    noun, nouns = "Atom", "Atoms"
    shown = (
        "id", "account", "name", "type", "environment", "attached_at", "attached_by", "status", "created_at", "created_by",
        "provisioned_at", "attachment_revision", "rekey_revision", "revoked_at", "authenticity",
    )  # fmt: skip
    withheld = ("generation", "signature", "attached_to", "installer_token")
    by_id = ("pk", "account_id", "attached_to_id")
    found_by = "its id, the id of its environment, or the id or code of its account"
    list_display = ("name", "account", "type", "environment", "status")
    ordering = ("account_id", "name")
    leads_to = ("atoms.node", "vaults.kmssettings", *BY_SUBJECT)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Atom]:
        rows = Atom.objects.with_last_revoked().filter(pk__in=super().get_queryset(request).values("pk"))
        return rows.select_related("account", "created_by", "attached_to").prefetch_related("nodes")

    @admin.display(description="attached to")
    def environment(self, atom: Atom) -> str:
        try:
            return str(atom.environment or "")
        except RowTampered:
            return FORGED

    def status(self, atom: Atom) -> str:
        return str(atom.status().label)

    def authenticity(self, atom: Atom) -> str:
        return _authenticity(atom)


@admin.register(Node, site=site)
class NodePage(SupportPage):
    shown = (
        "id", "atom", "host_name", "version", "state", "created_at", "enrolled_at", "last_seen_at",
        "delivered_environment", "delivered_revision", "reported_at", "verdict", "held_revision", "at_rest_key",
        "last_proof",
    )  # fmt: skip
    by_id = ("pk", "atom_id", "atom__account_id")
    by_text = ("atom__account__code", "host_name")
    account_at = "atom.account"
    found_by = "its id or host name, the id of its Atom, or the id or code of its account"
    list_display = ("host_name", "atom", "state", "last_seen_at", "verdict")
    leads_to = BY_SUBJECT

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return (
            super()
            .get_queryset(request)
            .select_related("atom__account", "report", "selfcheck", "delivered_environment")
        )

    def reported_at(self, node: Node) -> object:
        return getattr(getattr(node, "report", None), "reported_at", None)

    def verdict(self, node: Node) -> str:
        report = getattr(node, "report", None)
        return f"{report.verdict}. {report.sentence}".rstrip(". ") if report else "Never reported"

    def held_revision(self, node: Node) -> object:
        return getattr(getattr(node, "report", None), "revision", None)

    def at_rest_key(self, node: Node) -> str:
        report = getattr(node, "report", None)
        return f"{report.get_source_display()}: {report.key_name}, version {report.key_version}" if report else ""

    def last_proof(self, node: Node) -> object:
        return getattr(getattr(node, "selfcheck", None), "proved_at", None)


@admin.register(KmsSettings, site=site)
class KmsSettingsPage(SupportPage):
    noun, nouns = "KMS settings", "KMS settings"
    shown = (
        "id", "atom", "mode", "wrapped", "revision", "changed_at", "changed_by", "properties_file",
        "uploaded_at", "facts", "authenticity",
    )  # fmt: skip
    withheld = ("sealed", "generation", "signature", "data_key")
    by_id = ("pk", "atom_id", "atom__account_id")
    by_text = ("atom__account__code",)
    account_at = "atom.account"
    found_by = "its id, the id of its Atom, or the id or code of its account"
    list_display = ("atom", "mode", "wrapped", "revision", "changed_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[KmsSettings]:
        rows = super().get_queryset(request).select_related("atom__account", "atom__properties_file", "changed_by")
        return rows.defer("sealed", "atom__properties_file__sealed").order_by("atom__name", "pk")

    def properties_file(self, settings: KmsSettings) -> str:
        file = getattr(settings.atom, "properties_file", None)
        return file.name if file else ""

    def uploaded_at(self, settings: KmsSettings) -> object:
        return getattr(getattr(settings.atom, "properties_file", None), "uploaded_at", None)

    def facts(self, settings: KmsSettings) -> str:
        file = getattr(settings.atom, "properties_file", None)
        if file is None:
            return ""
        return (
            ", ".join(f"{name}: {value}" for name, value in file.facts.items())
            if file.has_valid_signature()
            else FORGED
        )

    def authenticity(self, settings: KmsSettings) -> str:
        return _authenticity(settings)


# -- operations --------------------------------------------------------------------------------------------------------


def _why_not_retry(operation: Operation) -> str:
    ended = operation.state in (Operation.State.FAILED, Operation.State.CANCELLED)
    return "" if ended else "Only what failed or was cancelled can be taken up again."


def _why_not_cancel(operation: Operation) -> str:
    if operation.is_finished:
        return "It has ended already."
    return "" if is_cancellable(operation) else "Work of this kind cannot be cancelled."


def _retrying(operation: Operation) -> list[str]:
    done = f"{operation.done} of {operation.total} are done and stay so."
    return [f"A worker takes it up where it stopped: {done}", "The account's administrators see who asked for it."]


def _cancelling(operation: Operation) -> list[str]:
    return ["It ends at its next safe place; what is done by then stays done.", "It can be taken up again later."]


RETRY = Act(
    "retry",
    "Retry 1 operation",
    _retrying,
    _why_not_retry,
    lambda operation, user: operations.resume(operation, actor=user),
)
CANCEL = Act(
    "cancel",
    "Cancel 1 operation",
    _cancelling,
    _why_not_cancel,
    lambda operation, user: operations.cancel(operation, actor=user),
)


@admin.register(Operation, site=site)
class OperationPage(SupportPage):
    shown = (
        "id", "account", "title", "kind", "subject_id", "requested_by", "requested_at", "queue", "exclusive_group", "state",
        "done", "total", "failed", "attempts", "troubles", "run_after", "current_until", "taken_up_until",
        "started_at", "finished_at", "lease_until",
        "environment_id", "concluded_at", "cancel_asked_at", "error_code", "error_sentence", "details",
    )  # fmt: skip
    withheld = ("lease", "generation", "signature", "taken_up")
    by_id = ("pk", "account_id", "subject_id")
    found_by = "its id, the id of what it is about, or the id or code of its account"
    acts = (RETRY, CANCEL)
    list_display = ("title", "account", "state", "requested_at", "error_code")
    list_select_related = ("account",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Operation]:
        return super().get_queryset(request).select_related("account", "requested_by")


@admin.register(LoginAlarm, site=site)
class LoginAlarmPage(SupportPage):
    shown = (
        "id", "account", "mount", "role", "metadata", "issued_at", "found_at", "mailed_at", "destroyed_at", "closed_at",
        "closed_by",
    )  # fmt: skip
    withheld = ("accessor", "generation", "signature")
    list_display = ("mount", "role", "account", "found_at", "closed_at")
    list_select_related = ("account",)
    by_text = ("account__code", "role")
    found_by = "its id or role, or the id or code of its account"

    def get_queryset(self, request: HttpRequest) -> QuerySet[LoginAlarm]:
        return super().get_queryset(request).select_related("account", "closed_by")


@admin.register(AuditEntry, site=site)
class AuditEntryPage(SupportPage):
    noun, nouns = "audit entry", "audit entries"
    shown = (
        "id", "account", "seq", "at", "actor_id", "actor_name", "type", "action", "modifier", "subject_id", "message",
        "properties",
    )  # fmt: skip
    withheld = ("previous", "signature")
    by_id = ("pk", "account_id", "subject_id")
    by_text = ("account__code",)
    found_by = "its id, the id of what was touched, or the id or code of its account"
    list_display = ("at", "actor_name", "message", "account")
    list_select_related = ("account",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        return super().get_queryset(request).select_related("account").defer("previous", "signature")
