"""Works out what a save would change, without changing it: which rows are written, which leave, what is held after it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from atoms.models import Environment
from extensions.listing import Listed, Listing, Path, listed_row
from extensions.models import ExtensionValue, Field, ProcessProperty, entry, listed_in
from extensions.secret import Secret
from kmscore.refused import Refused
from kmscore.sealed.manifest import Form, Manifest
from vaults.models import DataKey

NAMED = 5  # of what stops a save; a sentence is no list
NO_COMPONENT_VALUE = "an encrypted field has no connection component value. Type a value, or leave what is stored."


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a user wants for a field: a new secret, a plain value, the component's value, or nothing at all (`clear`).

    An encrypted field has no component value; plan_save refuses to give it one.
    """

    field: Field
    to: Literal["secret", "plain", "component", "clear"]
    value: str | Secret = ""


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """A process property's new value, or None to remove it."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class HeldValue:
    """One thing an environment holds, as a row of either table."""

    path: Path
    name: str
    label: str
    form: Form
    encrypted: bool
    revision: int
    plain: str = ""
    field: Field | None = None
    data_key: str = ""  # of a sealed row; "" until the save seals it
    lost: str = ""  # DataKey.LostBecause: the vault has that key no more
    at: int = 0  # when it was saved, in seconds since 1970; 0 until the save that is planned
    genuine: bool = True  # it is what the signed list says


@dataclass(slots=True)
class Plan:
    """A save worked out: `held` is everything after it, `written` the rows to write, `removed` the paths to delete."""

    environment: Environment
    revision: int  # the environment's after the save
    held: dict[Path, HeldValue]
    written: dict[Path, HeldValue] = field(default_factory=dict)
    secrets: dict[Path, Secret] = field(default_factory=dict, repr=False)
    removed: dict[Path, HeldValue] = field(default_factory=dict)
    renamed: bool = False
    missing: list[HeldValue] = field(default_factory=list)  # encrypted fields without a value: listed, and no row
    redirected: list[HeldValue] = field(default_factory=list)  # of `written`: where the component's value was another
    asked: set[Path] = field(default_factory=set)  # of `written` and `removed`, what somebody asked for
    gone: set[Path] = field(default_factory=set)  # listed, and taken away past the portal
    let_go: set[Path] = field(default_factory=set)  # not what was saved, and given up
    sealed: frozenset[Path] = frozenset()  # what ever was a secret there, before this save
    restored: int = 0  # how often it was published anew after a restore
    by: Mapping[Path, str] = field(default_factory=dict)  # who saved what is held

    @property
    def is_empty(self) -> bool:
        """Nothing would change. The first save of an environment always changes something: it publishes."""
        return not (self.written or self.removed or self.renamed or self.gone) and self.revision > 1

    def put(self, held: HeldValue, secret: Secret | None = None) -> None:
        held = replace(held, revision=self.revision)
        self.held[held.path] = self.written[held.path] = held
        self.removed.pop(held.path, None)
        if secret is not None:
            self.secrets[held.path] = secret

    def remove(self, path: Path) -> None:
        self.removed[path] = self.held.pop(path)
        self.written.pop(path, None)

    def move_to(self, revision: int) -> None:
        """Give the save another revision than the next one."""
        self.revision = revision
        for path, held in self.written.items():
            self.written[path] = self.held[path] = replace(held, revision=revision)

    def manifest(self, new_key: str) -> Manifest:
        """new_key: the id of the data key that seals what this save seals.

        What was lost by a restore is listed as lost: containers that hold it keep it. What was shredded is not listed.
        """
        entries = (
            entry(h.path, h.name, "lost" if h.lost else h.form, h.encrypted, h.revision, h.plain, h.data_key or new_key)
            for h in (*self.held.values(), *self.missing)
            if h.lost != DataKey.LostBecause.SHREDDED
        )
        return Manifest(str(self.environment.pk), self.revision, tuple(entries), self.restored, self.ever_sealed)

    def listing(self, new_key: str, now: int, by: str) -> Listing:
        """now, by: when what is written is saved, and by whom."""
        rows = {
            path: listed_row(h.form, h.revision, now if path in self.written else h.at, h.plain, h.data_key or new_key)
            for path, h in self.held.items()
        }
        names = {path: by if path in self.written else self.by.get(path, "") for path in rows}
        return Listing(rows, self.ever_sealed, self.restored, names)

    @property
    def ever_sealed(self) -> frozenset[Path]:
        return self.sealed | {path for path, held in self.held.items() if held.form == "sealed"}

    @property
    def lost(self) -> list[HeldValue]:
        """The values of the environment's own that would be deleted."""
        return [held for held in self.removed.values() if held.form != "component"]

    def touched(self) -> list[list[str]]:
        """For the audit log and the conflict page: [connection or "", label, what happened]; never a value."""
        first = self.revision == 1  # it also writes what every field stands at, which nobody touched
        rows = [[h.name, h.label, _deed(h)] for path, h in self.written.items() if not first or path in self.asked]
        removed = [(path, h.name, h.label) for path, h in self.removed.items()]
        removed += [(path, "", path[-1]) for path in sorted(self.let_go - self.removed.keys() - self.written.keys())]
        return rows + [[name, label, "let go" if path in self.let_go else "cleared"] for path, name, label in removed]


def _deed(held: HeldValue) -> str:
    return {"sealed": "new secret", "plain": "new value", "component": "component value"}[held.form]


def plan_save(
    environment: Environment,
    fields: Sequence[Field],
    field_changes: Iterable[FieldChange] = (),
    property_changes: Iterable[PropertyChange] = (),
    leaves: Callable[[Path], bool] = lambda path: False,
) -> Plan:
    """What saving these changes would do, for the account's fields as they are (or will be, when a connection is
    changed or deleted). leaves: what has no field afterwards because somebody asked for that.

    Raises Refused: no_component_value, value_forged, sealed_once; RowTampered.
    """
    plan = _plan_of(environment, fields, listed_in(environment))
    entered = set[Path]()
    for change in field_changes:
        _apply(plan, change)
        entered.add(change.field.path)
    for wanted in property_changes:
        _apply_property(plan, wanted)
        entered.add(("property", wanted.name))
    plan.asked = {*plan.written, *plan.removed}
    _refuse_forged(plan, {one.path: one for one in fields if one.extensible}, entered, leaves)
    _reconcile(plan, fields)
    _refuse_unsealed(plan)
    return plan


def plan_letting_go(environment: Environment, fields: Sequence[Field], listing: Listing) -> Plan:
    """What giving up all that is not what was saved would do, for the account's genuine fields. What is left is as it was saved,
    and a place that was a secret's stays one: a plain field that came to stand there counts as none. Raises RowTampered.
    """
    fields = [one for one in fields if one.encrypted or one.path not in listing.sealed]
    plan = _plan_of(environment, fields, listing)
    plan.let_go = _unmended(plan, {one.path for one in fields if one.extensible}, set(), lambda path: False)
    for path in plan.let_go & plan.held.keys():
        plan.remove(path)
    _reconcile(plan, fields)
    return plan


def _plan_of(environment: Environment, fields: Sequence[Field], listing: Listing) -> Plan:
    """Of no change yet."""
    held = _held(environment, {f.pk: f for f in fields}, listing.rows)
    plan = Plan(environment, environment.extensions_revision + 1, held)
    plan.sealed, plan.restored, plan.by = listing.sealed, listing.restored, listing.by
    plan.gone = listing.rows.keys() - held.keys()
    return plan


def _refuse_unsealed(plan: Plan) -> None:
    """A place where a secret was typed once is never one where it would be kept in the clear."""
    for path in plan.sealed:
        held = plan.held.get(path)
        if held is not None and held.form != "sealed":
            raise Refused(
                "sealed_once",
                f"{held.name} / {held.label} was an encrypted field in {plan.environment.name} once, so {path[-1]} stays the id"
                " of one: give the plain field another id.",
            )


def _refuse_forged(
    plan: Plan, extensible: Mapping[Path, Field], entered: set[Path], leaves: Callable[[Path], bool]
) -> None:
    """What stays has to be what was saved."""
    stays = sorted(_unmended(plan, extensible.keys(), entered, leaves))
    if stays:
        more = f" and {len(stays) - NAMED} more" if len(stays) > NAMED else ""
        raise Refused(
            "value_forged",
            f"In {plan.environment.name} these were changed or taken away past the portal: "
            f"{', '.join(_name(plan, extensible, path) for path in stays[:NAMED])}{more}. Enter or remove them in one save of its "
            "extensions. That page, loaded again, says how to let go of what has no field any more. Tell the portal's operator.",
        )


def _unmended(
    plan: Plan, extensible: Collection[Path], entered: set[Path], leaves: Callable[[Path], bool]
) -> set[Path]:
    """What is not what was saved and stays; what is entered anew, is removed or leaves with its field may have been anything.

    Only an edit has fields leave, and those that it names: any other was taken away past the portal.
    """
    suspect = plan.gone | {path for path, held in plan.held.items() if not held.genuine}
    stays = {path for path in suspect - entered if path in extensible or path[0] == "property"}
    of_fields = {path for path in (*plan.held, *plan.gone) if path[0] == "connection"}
    return stays | {path for path in of_fields.difference(extensible) if not leaves(path)}


def _name(plan: Plan, extensible: Mapping[Path, Field], path: Path) -> str:
    field, held = extensible.get(path), plan.held.get(path)
    if field is not None:
        return f"{field.connection.name} / {field.label}"
    return f"{held.name} / {held.label}" if held is not None and held.name else path[-1]


def _held(
    environment: Environment, fields: Mapping[object, Field], listed: Mapping[Path, Listed]
) -> dict[Path, HeldValue]:
    held: dict[Path, HeldValue] = {}
    columns = ("field_id", "form", "revision", "plain", "data_key_id", "data_key__lost_because", "set_at")
    rows = ExtensionValue.objects.filter(environment=environment).values_list(*columns)
    stray = [row for row in rows if row[0] not in fields]
    known = dict(fields)
    if stray:  # of fields that are being removed
        known |= Field.objects.select_related("connection").in_bulk([row[0] for row in stray])
    shredded = _shredded_until(environment)
    for field_id, form, revision, plain, data_key, lost, set_at in rows:
        found = known.get(field_id)
        if found is None:  # of no field: nobody could have saved it
            continue
        at, lost = int(set_at.timestamp()), lost or ""
        genuine = listed.get(found.path) == listed_row(form, revision, at, plain, data_key)
        held[found.path] = HeldValue(
            *(found.path, found.connection.name, found.label, form, found.encrypted, revision, plain, found),
            data_key=str(data_key or ""),
            lost=lost,
            at=at,
            genuine=genuine and (lost != DataKey.LostBecause.SHREDDED or at <= shredded),
        )
    properties = ProcessProperty.objects.filter(environment=environment)
    for name, revision, plain, set_at in properties.values_list("name", "revision", "plain", "set_at"):
        path, at = ("property", name), int(set_at.timestamp())
        genuine = listed.get(path) == listed_row("plain", revision, at, plain, None)
        held[path] = HeldValue(path, "", name, "plain", False, revision, plain, at=at, genuine=genuine)
    return held


def _shredded_until(environment: Environment) -> int:
    """When the account's keys were last shredded, in seconds since 1970; 0 when nobody ever did."""
    kms = getattr(environment.account, "kms", None)
    return int(kms.verified().shredded_at.timestamp()) if kms and kms.shredded_at else 0


def _of(field: Field, form: Form, plain: str = "") -> HeldValue:
    return HeldValue(field.path, field.connection.name, field.label, form, field.encrypted, 0, plain, field)


def _apply(plan: Plan, change: FieldChange) -> None:
    path = change.field.path
    current = plan.held.get(path)
    if change.to == "secret":
        assert isinstance(change.value, Secret)
        plan.put(_of(change.field, "sealed"), change.value)
    elif change.to == "plain":
        assert isinstance(change.value, str)
        if current is None or not current.genuine or (current.form, current.plain) != ("plain", change.value):
            plan.put(_of(change.field, "plain", change.value))
    elif change.to == "component":
        if change.field.encrypted:
            raise Refused("no_component_value", f"{change.field} is encrypted: {NO_COMPONENT_VALUE}")
        if current is None or not current.genuine or current.form != "component":
            plan.put(_of(change.field, "component", change.field.component_value))
    elif current is not None:
        plan.remove(path)


def _apply_property(plan: Plan, change: PropertyChange) -> None:
    path = ("property", change.name)
    current = plan.held.get(path)
    if change.value is None:
        if current is not None:
            plan.remove(path)
    elif current is None or not current.genuine or current.plain != change.value:
        plan.put(HeldValue(path, "", change.name, "plain", False, 0, change.value))


def _reconcile(plan: Plan, fields: Sequence[Field]) -> None:
    """Make what is held agree with the fields: gone ones leave, plain ones follow the component unless overridden, and
    encrypted ones without a value are missing."""
    extensible = {one.path: one for one in fields if one.extensible}
    for path in [path for path in plan.held if path[0] == "connection" and path not in extensible]:
        plan.remove(path)
    for path, wanted in extensible.items():
        current = plan.held.get(path)
        if wanted.encrypted:
            if current is None:  # so that the containers can say what is missing; it is news with the next save
                plan.missing.append(replace(_of(wanted, "component"), revision=plan.revision))
        elif current is None or (current.form == "component" and current.plain != wanted.component_value):
            plan.put(_of(wanted, "component", wanted.component_value))
            if current is not None:
                plan.redirected.append(current)
