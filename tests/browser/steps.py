"""What a person does in the browser, step by step; shared by the browser tests."""

from playwright.sync_api import Locator, Page, expect


def sign_in(page: Page, url: str, email: str, password: str) -> None:
    page.goto(url + "/auth/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Sign in")


def create_environment(page: Page, account: str, name: str) -> None:
    page.goto(f"{account}environments/new/")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("New environment")


def create_atom(page: Page, account: str, name: str, environment: str) -> None:
    """Ends on Installation."""
    page.goto(f"{account}atoms/new/")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Environment", exact=True).select_option(label=environment)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Installation", level=1)).to_be_visible()


def create_connection(page: Page, account: str, name: str, fields: list[tuple[str, str, bool]]) -> None:
    """fields: (id, label, encrypted)."""
    page.goto(f"{account}connections/new/")
    page.get_by_label("Name", exact=True).fill(name)
    for number, (key, label, encrypted) in enumerate(fields):
        if number:
            page.get_by_role("button", name="Add a field").click()
        row = page.get_by_role("group", name="New field").filter(visible=True).last
        row.get_by_label("Field id").fill(key)
        row.get_by_label("Label", exact=True).fill(label)
        row.get_by_label("Encrypted").set_checked(encrypted)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def installer_token(page: Page) -> str:
    """On Installation: the token a new Atom comes with, or one made now; it is shown in that one answer."""
    if not page.locator("#installer-token").is_visible():
        page.get_by_role("button", name="Make installer token").click()
    return page.locator("#installer-token").inner_text().strip()


def choose_connection(page: Page, name: str) -> Locator:
    """In Environment Extensions; gives the connection's part of the dialog."""
    option = page.locator("#extensions-connection option").filter(has_text=name).first
    page.locator("#extensions-connection").select_option(option.get_attribute("value"))
    part = page.get_by_role("region", name=name)
    expect(part).to_be_visible()
    return part


def type_secret(part: Locator, label: str, value: str) -> None:
    group = part.get_by_role("group", name=label, exact=True)
    group.locator("summary").click()
    group.get_by_label(f"New value of {label}").fill(value)


def type_plain(part: Locator, label: str, value: str) -> None:
    row = part.locator("[data-ext]").filter(has=part.page.get_by_label(label, exact=True))
    row.get_by_label("Use connection component value").uncheck()
    row.get_by_label(label, exact=True).fill(value)


def remove_secret(part: Locator, label: str) -> None:
    """Open what removing a stored value does, and confirm it there; Save does it."""
    row = part.locator("[data-ext]").filter(has=part.page.get_by_role("group", name=label, exact=True))
    row.get_by_text("Remove the stored value").click()
    row.get_by_label(f"Remove {label} of").check()


def save_extensions(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#extensions-form .saved")).to_contain_text("Saved")


def atom_address(page: Page) -> str:
    """On any page of an Atom: the address of its Atom Information."""
    href = page.get_by_role("link", name="Atom Information").first.get_attribute("href")
    return page.evaluate("path => new URL(path, location.href).href", href)
