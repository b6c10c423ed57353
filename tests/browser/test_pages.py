"""Every page in a real browser: accessible, quiet, usable without script and without a mouse, and true without a reload."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from atoms.models import InstallerToken, Node
from extensions.models import ExtensionValue, ProcessProperty
from tests.browser import steps
from tests.browser.accessibility import faults_at
from tests.browser.visit import Visit, enrolled, save_as, tab_to
from tests.live import LivePortal
from vaults.models import ContainerReport

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
SECRET = "kept in place 7f3c"  # noqa: S105 (not a real one)


def every_page(visit: Visit, node: Node) -> list[str]:
    stage = visit.stage
    atom, second, environment = stage.atom.pk, stage.second.pk, stage.production.pk
    pages: list[tuple[Any, ...]] = [
        ("atoms:atom_management",),
        ("atoms:atom_create",),
        ("atoms:environment_create",),
        ("operations:operation_list",),
        ("accounts:audit_log",),
        ("extensions:connection_list",),
        ("extensions:connection_create",),
        ("extensions:connection_edit", stage.connection.pk),
        ("extensions:connection_delete", stage.connection.pk),
        *((f"atoms:atom_{name}", atom) for name in ("detail", "attach", "detach", "delete", "install")),
        ("atoms:atom_install", second),
        ("atoms:atom_detail", second),
        ("atoms:node_revoke", atom, node.pk),
        ("vaults:kms_panel", atom),
        ("vaults:kms_panel", second),
        ("atoms:environment_detail", environment),
        ("atoms:environment_detail", stage.test.pk),
        ("atoms:environment_delete", environment),
        ("atoms:environment_delete", stage.test.pk),
        ("extensions:environment_extensions", environment),
        ("extensions:environment_let_go", environment),
    ]
    return [visit.address(*page) for page in pages]


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_fits_the_screen_and_obeys_its_content_policy(
    visit: Callable[..., Visit], theme: str
) -> None:
    alice = visit()
    save_as(alice.stage)
    node = enrolled(alice.stage)
    page = alice.page
    page.context.add_cookies([{"name": "theme", "value": theme, "url": alice.portal.url}])
    assert faults_at(page, every_page(alice, node)) == []
    assert alice.complaints == []


def test_read_only_members_see_what_is_held_and_no_input(visit: Callable[..., Visit]) -> None:
    bob = visit("bob")
    save_as(bob.stage)
    page = bob.extensions()
    password = page.get_by_role("group", name="Password", exact=True)
    expect(password).to_contain_text("<Encrypted>")
    expect(password).to_contain_text("by alice@example.com")
    assert (
        page.locator("#extensions-form").locator("textarea, input[type=checkbox], button:text-is('Save')").count() == 0
    )
    bob.go("atoms:atom_detail", bob.stage.atom.pk)
    assert page.get_by_role("main").get_by_role("button", name="Rename").count() == 0
    expect(page.locator("#tree-new")).to_have_count(0)


def test_without_script_the_dialog_saves_and_says_which_secrets_to_type_again(visit: Callable[..., Visit]) -> None:
    alice = visit(java_script_enabled=False)
    stage, page = alice.stage, alice.extensions(query="")
    secret = page.get_by_role("group", name="Password", exact=True)
    secret.locator("summary").click()
    secret.locator("textarea").fill("line one\n line two ")
    host = page.locator(f"#value-{stage.field('host').pk}")
    host.fill("db.test")
    page.get_by_role("button", name="Save", exact=True).click()
    errors = page.locator("#extensions-errors")
    expect(errors).to_contain_text("Untick")
    expect(errors).to_contain_text("type these again: Orders database / Password", ignore_case=True)
    expect(host).to_have_value("db.test")
    assert page.locator("textarea.masked").evaluate_all("all => all.every(one => one.value === '')") is True
    assert "line one" not in page.content()
    assert not ExtensionValue.objects.filter(form="sealed").exists()

    secret.locator("summary").click()
    secret.locator("textarea").fill("line one\n line two ")
    page.locator(f"#component-{stage.field('host').pk}").uncheck()
    page.get_by_label("New name").first.fill("region")
    page.locator("[name='property.0.value']").fill("\n eu-west")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#messages")).to_contain_text("Saved")
    expect(secret).to_contain_text("<Encrypted>")
    assert ProcessProperty.objects.get().plain == "\n eu-west"
    expect(page.locator("[name='property.0.value']")).to_have_value("\n eu-west")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#messages")).to_contain_text("Nothing was changed")

    page.get_by_role("link", name="Missing").click()
    expect(page.locator(f"#field-{stage.field('apiKey').pk}")).to_be_visible()
    expect(page.locator(f"#field-{stage.field('password').pk}")).to_be_hidden()


def test_without_script_the_tree_is_searched_and_filtered(visit: Callable[..., Visit]) -> None:
    alice = visit(java_script_enabled=False)
    page = alice.go("atoms:atom_detail", alice.stage.atom.pk)
    page.locator("#tree-search").fill("second")
    page.locator("#tree-search").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Orders Atom")
    expect(page.locator("#tree [data-row]")).to_have_count(1)
    page.get_by_role("link", name="Second Atom").click()
    expect(page.locator("#tree-search")).to_have_value("second")
    page.get_by_role("link", name="Show all").click()
    page.locator("#tree-filter summary").click()
    page.locator("#tree-filter").get_by_label("Type").select_option(label="Molecule")
    page.locator("#tree-filter").get_by_role("button", name="Filter").click()
    expect(page.locator("#tree [data-row]")).to_have_count(0)
    expect(page.locator("#tree")).to_contain_text("Nothing matches")


def test_a_secret_is_saved_with_the_keyboard_alone(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.go("atoms:atom_management")
    tab_to(page, ".skip")
    tab_to(page, f"#tree-env-{alice.stage.production.pk}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Production")
    tab_to(page, ".frame-menu a[href*='extensions']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Environment Extensions")
    tab_to(page, "#extensions-connection")
    tab_to(page, f"#field-{alice.stage.field('password').pk} summary")
    page.keyboard.press("Enter")
    expect(page.locator(f"#secret-{alice.stage.field('password').pk}")).to_be_focused()
    page.keyboard.type(SECRET)
    expect(page.locator(".unsaved")).to_be_visible()
    tab_to(page, "#extensions-save")
    page.keyboard.press("Enter")
    expect(page.locator("#extensions-form .saved")).to_contain_text("Saved")
    expect(page.locator("#extensions-save")).to_be_focused()
    assert SECRET not in page.content()

    alice.go("atoms:atom_management")
    tab_to(page, "#tree-new summary")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Environment", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#tree-new summary")).to_be_focused()
    assert alice.complaints == []


def test_an_error_is_beside_its_field_and_leaves_everything_typed_in_place(visit: Callable[..., Visit]) -> None:
    alice = visit()
    stage, page = alice.stage, alice.extensions(query="")
    part = steps.choose_connection(page, "Orders database")
    steps.type_plain(part, "Host", "db.test")
    steps.type_secret(part, "API key", SECRET)
    steps.type_secret(part, "Password", "<Encrypted>")
    page.get_by_role("button", name="Save", exact=True).click()
    errors = page.locator("#extensions-errors [role=alert]")
    expect(errors).to_contain_text("Orders database / Password")
    expect(errors).to_be_focused()
    typed = page.locator(f"#secret-{stage.field('password').pk}")
    expect(typed).to_have_value("<Encrypted>")
    expect(typed).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"#secret-{stage.field('password').pk}_error")).to_contain_text("mark for a hidden value")
    expect(page.locator(f"#secret-{stage.field('apiKey').pk}")).to_have_value(SECRET)
    expect(part.get_by_label("Host", exact=True)).to_have_value("db.test")
    assert not ExtensionValue.objects.exists()

    typed.fill("a better one")
    steps.save_extensions(page)
    expect(page.locator("#extensions-form [aria-invalid=true]")).to_have_count(0)
    assert ExtensionValue.objects.filter(form="sealed").count() == 2
    assert SECRET not in page.content()
    assert alice.complaints == []


def test_a_conflict_shows_who_changed_what_and_what_was_typed_is_carried_over(visit: Callable[..., Visit]) -> None:
    alice = visit()
    stage, page = alice.stage, alice.extensions(query="")
    part = steps.choose_connection(page, "Orders database")
    steps.type_secret(part, "API key", SECRET)
    page.locator("#extensions-connection").select_option("properties")
    page.get_by_role("button", name="Add a property").click()
    page.get_by_label("New name").last.fill("batchSize")
    save_as(stage)
    page.get_by_role("button", name="Save", exact=True).click()
    conflict = page.locator("#extensions-errors")
    expect(conflict).to_contain_text("Production was changed meanwhile")
    expect(conflict).to_contain_text("alice@example.com saved")
    expect(conflict).to_contain_text("Orders database / Password: new secret")
    assert "something else" not in page.content()
    typed = page.locator(f"#secret-{stage.field('apiKey').pk}")
    expect(typed).to_have_value(SECRET)

    page.get_by_role("button", name="keep what I typed").click()
    expect(conflict).to_be_empty()
    expect(typed).to_have_value(SECRET)
    page.locator("#extensions-connection").select_option("")
    expect(page.get_by_role("group", name="Password", exact=True)).to_contain_text("<Encrypted>")
    expect(page.locator(".unsaved")).to_be_visible()
    steps.save_extensions(page)
    stage.production.refresh_from_db()
    assert stage.production.extensions_revision == 2
    assert set(ProcessProperty.objects.values_list("name", flat=True)) == {"region", "batchSize"}
    assert alice.complaints == []


def test_a_double_click_saves_once(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.extensions(query="")
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    part = steps.choose_connection(page, "Orders database")
    steps.type_secret(part, "Password", SECRET)
    page.get_by_role("button", name="Save", exact=True).dblclick()
    expect(page.locator("#extensions-form .saved")).to_contain_text("Saved")
    assert len(posts) == 1


def test_only_what_was_touched_is_sent(visit: Callable[..., Visit]) -> None:
    """With htmx and without it; a box that was unticked counts as touched, and so do the inputs beside it."""
    alice = visit()
    page = alice.extensions(query="")
    host, user = (alice.stage.field(key).pk for key in ("host", "user"))
    sent: list[set[str]] = []
    page.on("request", lambda request: sent.append(_names(request.post_data)) if request.method == "POST" else None)
    part = steps.choose_connection(page, "Orders database")
    steps.type_plain(part, "Host", "db.test")
    steps.save_extensions(page)
    page.on("dialog", lambda dialog: dialog.accept())
    submit = "document.querySelector('#extensions-form').submit()"
    with page.expect_navigation():
        page.evaluate(submit)
    part = steps.choose_connection(page, "Orders database")
    steps.type_plain(part, "User", "")
    with page.expect_navigation():
        page.evaluate(submit)
    always = {"csrfmiddlewaretoken", "expected_revision"}
    assert sent == [always | {f"value.{host}"}, always, always | {f"value.{user}"}]
    held = ExtensionValue.objects.values_list("field__key", "form", "plain")
    assert set(held) == {("host", "plain", "db.test"), ("user", "plain", "")}
    assert alice.complaints == []


def _names(body: str | None) -> set[str]:
    return set(parse_qs(body or "", keep_blank_values=True))


def test_leaving_with_unsaved_changes_asks_first(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.extensions(query="")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    part = steps.choose_connection(page, "Orders database")
    steps.type_plain(part, "Host", "db.test")
    page.get_by_role("link", name="Environment Properties").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Environment Extensions")
    assert asked == ["beforeunload"]


def test_the_panel_follows_within_five_seconds_without_a_reload(visit: Callable[..., Visit]) -> None:
    alice = visit()
    save_as(alice.stage)
    page = alice.go("vaults:kms_panel", alice.stage.atom.pk)
    page.evaluate("window.neverReloaded = true")
    panel = page.locator("#main")
    expect(panel).to_contain_text("No container")
    node = enrolled(alice.stage)
    expect(panel).to_contain_text("orders-01.example", timeout=5_500)
    expect(panel).to_contain_text("Sealed by the hosted vault")
    ContainerReport.objects.filter(node=node).update(
        verdict="store_full", sentence="No space is left on the container."
    )
    expect(panel.get_by_text("Failing").first).to_be_visible(timeout=5_500)
    expect(panel).to_contain_text("No space is left on the container.")
    assert page.evaluate("window.neverReloaded") is True
    assert alice.complaints == []


HIDE = """Object.defineProperty(document, "hidden", { get: () => window.away === true });
window.leave = (away) => { window.away = away; document.dispatchEvent(new Event("visibilitychange")); };"""


@pytest.mark.slow
def test_a_hidden_page_does_not_poll_and_a_visible_one_asks_at_once(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.page
    page.add_init_script(HIDE)
    alice.go("vaults:kms_panel", alice.stage.atom.pk)
    asked: list[tuple[str, int]] = []
    page.on("response", lambda answer: asked.append((answer.url.rsplit("/", 2)[1], answer.status)))
    page.wait_for_timeout(6_500)
    assert ("kms", 304) in asked
    page.evaluate("leave(true)")
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(7_000)
    assert asked == []
    page.evaluate("leave(false)")
    page.wait_for_timeout(1_000)
    assert {name for name, _ in asked} >= {"kms"}


def test_a_filter_being_typed_and_a_closed_branch_outlive_polling(visit: Callable[..., Visit]) -> None:
    alice = visit()
    page = alice.go("atoms:atom_management")
    page.locator(f"#tree-{alice.stage.production.pk} summary").click()
    expect(page.get_by_role("link", name="Second Atom")).to_be_hidden()
    enrolled(alice.stage)
    expect(page.locator("#tree .dot.on")).to_have_count(1, timeout=7_000)
    expect(page.get_by_role("link", name="Second Atom")).to_be_hidden()
    page.locator(f"#tree-{alice.stage.production.pk} summary").click()
    page.locator("#tree-search").fill("orders")
    expect(page.get_by_role("link", name="Second Atom")).to_be_hidden()
    Node.objects.update(last_seen_at=timezone.now() - timedelta(days=1))
    expect(page.locator("#tree .dot.on")).to_have_count(0, timeout=7_000)
    expect(page.get_by_role("link", name="Second Atom")).to_be_hidden()
    expect(page.get_by_role("link", name="Orders Atom")).to_be_visible()


@pytest.fixture
def some_wheel(portal: LivePortal) -> Iterator[None]:
    """The installation page shows its lines once there is a wheel; what is in it does not matter to the page."""
    wheel = portal.directory / "wheels" / "kmsportal_runtime-0.0.0-py3-none-any.whl"
    wheel.parent.mkdir(exist_ok=True)
    wheel.write_bytes(b"stands for the wheel")
    yield
    wheel.unlink()


def test_the_installer_token_outlives_a_reload_and_leaves_the_page_when_the_machine_is_there(
    visit: Callable[..., Visit], some_wheel: None
) -> None:
    alice = visit()
    page = alice.go("atoms:atom_install", alice.stage.atom.pk)
    token = steps.installer_token(page)
    assert token.startswith("atom-")
    for line in ("install", "enrol", "run"):
        assert token not in page.locator(f"#line-{line}").inner_text()
    page.reload()
    expect(page.locator("#installer-token")).to_have_text(token)
    assert InstallerToken.objects.count() == 1
    assert not any(token in entry["value"] for entry in page.context.cookies())
    assert token not in page.evaluate("document.cookie + JSON.stringify([{...localStorage}, {...sessionStorage}])")
    node = enrolled(alice.stage)
    expect(page.locator("#atom-nodes")).to_contain_text("orders-01.example is enrolled", timeout=7_000)
    row = InstallerToken.objects.get()
    row.node, row.spent_at = node, timezone.now()
    row.save()
    expect(page.locator("#token")).to_contain_text("it is spent, and not shown any more", timeout=7_000)
    expect(page.locator("#make-token")).to_have_count(0)
    expect(page.locator("#line-run")).to_be_visible()
    assert token not in page.content()
    page.reload()
    assert token not in page.content()
    assert alice.complaints == []
