"""S1, I6: what is secret is nowhere but where it must be. One journey with a canary for each, then a search everywhere."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from kmscore.vaultclient.client import Vault
from kmsruntime.disk import credentials
from kmsruntime.disk.home import Home
from tests.http import Person
from tests.invariants.leaks import Scan, forms, session_of
from tests.live import ROOT, WORKING, LivePortal, start_portal
from tests.raft import RaftVault, raft_vault
from vaults.hosted.credentials import read_credentials

pytestmark = pytest.mark.slow
PASSWORD = "correct horse battery staple"
FAILURES = ("seal", "vault", "statement", "render")


@dataclass
class Scene:
    """A portal on a database, a vault and a queue of its own, with everything it writes below one directory."""

    directory: Path
    portal: LivePortal
    vault: RaftVault
    canaries: dict[str, str | bytes] = field(default_factory=dict)

    def canary(self, name: str) -> str:
        """A new secret: random, and with what has to be escaped in HTML, JSON and addresses."""
        self.canaries[name] = made = secrets.token_hex(12) + "&<ü>\"'\\ %2F" + secrets.token_hex(6)
        return made

    def command(self, *words: str, typed: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=self.portal.environment,
            input=typed,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with (self.directory / "commands.log").open("a") as log:
            log.write(done.stderr)
        return done.stdout

    def runtime(self, name: str, *words: str, typed: str = "") -> str:
        return self.command("-m", "kmsruntime", name, "--dir", str(self.directory / "container"), *words, typed=typed)

    @property
    def our_processes(self) -> set[int]:
        assert self.portal.valkey is not None
        leaders = [process.pid for process in self.portal.processes.values()]
        return set().union(*map(session_of, [*leaders, self.vault.pid, self.portal.valkey.process.pid]))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("canary")
    for name in ("portal", "tmp", "portal/wheels"):
        (directory / name).mkdir()
    (directory / "portal/wheels/kmsportal_runtime-0.1.0-py3-none-any.whl").write_bytes(b"not needed here")
    with raft_vault(directory / "vault") as vault, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(directory / "tmp"))
        database = f"sqlite:///{directory}/portal/portal.sqlite3"
        settings = {"KMS_DATABASE_URL": database, "KMS_VAR": str(directory / "portal"), "PYTHONPATH": str(ROOT)}
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"} | settings
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
        portal = start_portal(vault, database, directory / "portal")
        portal.environment["KMS_LOG_LEVEL"] = "DEBUG"
        for name in (*WORKING, "web"):
            portal.kill(name)
        portal.work()
        portal.start("web", application="tests.failing_wsgi:application")
        portal.wait_until_up()
        try:
            yield Scene(directory, portal, vault)
        finally:
            portal.stop()


def until(ask: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return answer


def match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in {text[:2000]}"
    return found[1]


@dataclass
class Pages:
    """The account's addresses."""

    account: str
    environment: str = ""
    atom: str = ""
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def extensions(self) -> str:
        return f"{self.environment}extensions/"


def set_up(scene: Scene) -> tuple[Person, Person, Pages]:
    """Two accounts with an administrator each; in the first an environment, an Atom and a connection, all by forms."""
    people = []
    for name in ("alice", "mallory"):
        email = f"{name}@example.com"
        printed = scene.command("manage.py", "create_account", name, "--admin", email, typed=PASSWORD + "\n")
        people.append((match(r"\((\S+-[A-Z0-9]{6})\)", printed), Person(scene.portal.url, email, PASSWORD)))
    (code, alice), (_, mallory) = people
    pages = Pages(f"/accounts/{code}/")
    made = alice.post(f"{pages.account}environments/new/", {"name": "Production", "classification": "PROD"})
    pages.environment = made.headers["Location"]
    environment = match(r"environments/([0-9a-f-]+)/", pages.environment)
    atom = {"name": "Orders Atom", "type": "MOLECULE", "environment": environment}
    pages.atom = alice.post(f"{pages.account}atoms/new/", atom).headers["Location"].removesuffix("installation/")
    form = {"name": "Orders", "fields-TOTAL_FORMS": "2", "fields-INITIAL_FORMS": "0"}
    for number, key in enumerate(("password", "apiKey")):
        form |= {f"fields-{number}-key": key, f"fields-{number}-label": key, f"fields-{number}-encrypted": "on"}
        form |= {f"fields-{number}-extensible": "on"}
    assert alice.post(f"{pages.account}connections/new/", form).status_code == 302
    dialog = alice.get(pages.extensions).text
    ids = re.findall(r'id="field-([0-9a-f-]{36})"[^>]*data-text="\w+ (\w+)"', dialog)
    pages.fields = {key: pk for pk, key in ids}
    until(lambda: alice.post(pages.extensions, save(0)).status_code == 302)
    until(lambda: "Preparing" not in alice.get(f"{pages.atom}kms/").text)
    return alice, mallory, pages


def save(revision: int, **secret: str) -> dict[str, str]:
    return {"expected_revision": str(revision)} | {f"secret.{pk}": value for pk, value in secret.items()}


def enrol(scene: Scene, alice: Person, pages: Pages) -> None:
    assert alice.post(f"{pages.atom}installation/", {"minutes": "60"}).status_code == 302
    answer = alice.get(f"{pages.atom}installation/")
    token = match(r'<pre id="installer-token"[^>]*>([^<]+)</pre>', answer.text)
    assert alice.seen.pop() is answer  # the one answer it is shown in; the cookie that brought it here is sealed
    scene.canaries["installer token"] = token
    addresses = ("--portal", scene.portal.url, "--vault", scene.vault.address)
    scene.runtime("enrol", *addresses, typed=token + "\n")


def refused_everywhere(scene: Scene, alice: Person, mallory: Person, pages: Pages) -> None:
    """A canary of its own typed into every way a save can fail, by htmx and without."""
    for htmx in ({}, {"HX-Request": "true"}):
        refused(scene, alice, pages, htmx, "validation error", 422, beside="****")
        refused(scene, alice, pages, htmx, "too large beside it", 422, beside="x" * 70_000)
        refused(scene, alice, pages, htmx, "stale revision", 409, revision=0)
        refused(scene, mallory, pages, htmx, "a stranger", 404)
        elsewhere = {"Referer": "http://evil.example/", "Origin": "http://evil.example"}
        refused(scene, alice, pages, htmx | elsewhere, "another origin", 403)
        for place in FAILURES:
            beside = "****" if place == "render" else ""
            refused(scene, alice, pages, htmx | {"X-Fail-In": place}, f"failure in {place}", 500, beside=beside)
        os.kill(scene.vault.pid, signal.SIGSTOP)
        refused(scene, alice, pages, htmx, "vault hangs", 422 if htmx else 503)
        os.kill(scene.vault.pid, signal.SIGCONT)
    put = alice.session.put(scene.portal.url + pages.extensions, {"secret.x": scene.canary("wrong method")}, timeout=30)
    assert put.status_code in (403, 405)
    unsigned = requests.post(scene.portal.url + pages.extensions, {"x": scene.canary("signed out")}, timeout=30)
    assert unsigned.status_code == 403
    alice.seen.append(unsigned)
    api = f"{scene.portal.url}/api/atom/v1/enrol"
    for body in ({"sync_hash": scene.canary("in a bad API request")}, scene.canary("as a bad API request")):
        answer = requests.post(api, json=body, headers={"Authorization": "Bearer atom-none"}, timeout=30)
        assert answer.status_code in (400, 422)
        alice.seen.append(answer)


def refused(
    scene: Scene,
    person: Person,
    pages: Pages,
    headers: dict[str, str],
    case: str,
    status: int,
    revision: int = 1,
    beside: str = "",
) -> None:
    name = f"{case}, {'htmx' if 'HX-Request' in headers else 'page'}"
    typed = {pages.fields["password"]: scene.canary(name), pages.fields["apiKey"]: beside}
    answer = person.post(pages.extensions, save(revision, **typed), **headers)
    assert answer.status_code == status, (name, answer.text[:3000])


def properties(token: str, uri: str = "http://127.0.0.1:1", key: str = "token") -> str:
    vault = {"uri": uri, "authentication": "token", key: token}
    lines = "".join(f"      {name}: {value}\n" for name, value in vault.items())
    return f"# not the token: {token}\nspring:\n  cloud:\n    vault:\n{lines}"


def bring_own_vault(scene: Scene, alice: Person, pages: Pages) -> None:
    """A token of its own in every file that is checked, refused, saved or replaced, by htmx and without."""

    def token(case: str) -> str:
        scene.canaries[case] = made = f"hvs.{secrets.token_hex(20)}"
        return made

    check, settings = f"{pages.atom}kms/check/", f"{pages.atom}kms/settings/"

    def form(text: str = "") -> dict[str, str]:
        """As a person would send it: a question about a live file is answered."""
        revision = match(r'name="expected_revision" value="(\d+)"', alice.get(settings).text)
        filled = {"byov": "on", "expected_revision": revision}
        asked = (
            alice.post(settings, filled, file=text, **{"HX-Request": "true"}).text if text and revision != "1" else ""
        )
        found = re.search(r'name="confirmed" value="([^"]+)"', asked)
        return filled | ({"confirmed": found[1]} if found else {})

    for headers in ({}, {"HX-Request": "true"}):
        way = "htmx" if headers else "page"
        texts = {
            "checked": properties(token(f"checked, {way}")),
            "misspelt": properties(token(f"misspelt, {way}"), key="tokn"),
            "no yaml": "spring: [\n" + properties(token(f"no yaml, {way}")),
            "in the address": properties("x", uri=f"https://me:{token(f'in the address, {way}')}@vault.example"),
        }
        for text in texts.values():
            assert alice.post(check, {}, file=text, **headers).status_code == 200
        stale = form() | {"expected_revision": "9"}
        answer = alice.post(settings, stale, file=properties(token(f"stale upload, {way}")), **headers)
        assert answer.status_code == 409
        assert alice.post(settings, form(), file=texts["in the address"], **headers).status_code == 422
        for place in (*FAILURES, "lint"):
            text = properties(token(f"upload that fails in {place}, {way}"))
            answer = alice.post(settings, form(text), file=text, **headers, **{"X-Fail-In": place})
            # Without htmx a save ends in a redirect: nothing is rendered that could fail.
            assert answer.status_code == (302 if place == "render" and not headers else 500), place
    text = properties(token("upload that was saved"))
    assert alice.post(settings, form(text), file=text).status_code == 302
    scene.command("-m", "kmsruntime", "sync", "--dir", str(scene.directory / "container"))


def use(scene: Scene, pages: Pages, value: str) -> None:
    """The container fetches it and gives it to programs; while one runs, no other process shows it."""
    scene.runtime("sync")
    scene.runtime("status")
    scene.runtime("status", "--json")
    assert scene.runtime("get", "Orders", "password") == value
    child = subprocess.Popen(
        [sys.executable, "-m", "kmsruntime", "exec", "--dir", str(scene.directory / "container"), "--", "sleep", "60"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        environ = Path(f"/proc/{child.pid}/environ")
        until(lambda: value.encode() in environ.read_bytes())  # it is where it must be
        scan = Scan(scene.canaries)
        scan.processes(scene.our_processes)
        assert scan.hits == set()
    finally:
        child.kill()
        child.wait()


def keys_of(scene: Scene) -> None:
    """What the container got to know counts as canaries too: its credentials, the data keys, the portal's own logins."""
    home = Home(scene.directory / "container")
    atom, environment = credentials.read_atom(home), credentials.read_environment(home)
    assert environment.login is not None
    scene.canaries |= {"sync credential": environment.sync_token, "settings credential": atom.settings_token}
    for login in (atom.login, environment.login):
        scene.canaries |= {f"secret_id at {login.mount}": login.secret_id, f"role_id at {login.mount}": login.role_id}
    server = Vault(scene.vault.address)
    token = server.login("environments", environment.login.role_id, environment.login.secret_id).token
    reader = server.with_token(token)
    document = reader.read_document("datakeys", f"{environment.environment}/0")
    opened = reader.unwrap_data_keys("intransit", environment.environment, list(document.values()))
    scene.canaries |= {f"data key {number}": key for number, key in enumerate(opened)}
    key_file = next(home.directory.glob("at-rest-key.*"))
    scene.canaries["at-rest data key"] = key_file.read_bytes()[:32]
    for name, identity in read_credentials(scene.vault.credentials / "all").identities.items():
        scene.canaries[f"secret_id of {name}"] = identity.secret_id


def every_page(alice: Person, pages: Pages) -> None:
    for page in ("atoms/", "audit/", "operations/", "connections/", "atoms/tree/"):
        assert alice.get(pages.account + page).status_code == 200
    for page in ("", "kms/", "kms/settings/", "kms/policy/", "installation/", "nodes/"):
        for headers in ({}, {"HX-Request": "true"}):
            assert alice.get(pages.atom + page, **headers).status_code == 200
    assert alice.get(pages.extensions).status_code == 200
    assert alice.get(pages.extensions, **{"HX-Request": "true"}).status_code == 200


def scan_answers(scan: Scan, *people: Person) -> None:
    for person in people:
        for answer in person.seen:
            scan.content(f"body of {answer.url}", answer.content)
            scan.content(f"headers of {answer.url}", repr(answer.headers).encode() + repr(answer.raw.headers).encode())


def scan_queue(scan: Scan, portal: LivePortal) -> None:
    assert portal.valkey is not None
    with redis.Redis.from_url(portal.valkey.url) as queue:
        for key in queue.scan_iter():
            scan.content(f"{key!r} in the queue", key + (queue.dump(key) or b""))
    scan.files(portal.valkey.directory)


def test_no_secret_is_anywhere_but_where_it_must_be(scene: Scene) -> None:
    alice, mallory, pages = set_up(scene)
    enrol(scene, alice, pages)
    refused_everywhere(scene, alice, mallory, pages)
    value = scene.canary("password that was saved")
    saved = save(1, **{pages.fields["password"]: value, pages.fields["apiKey"]: scene.canary("key that was saved")})
    assert alice.post(pages.extensions, saved).status_code == 302
    replaced = scene.canary("key that replaced it")
    form = save(2, **{pages.fields["apiKey"]: replaced})
    assert alice.post(pages.extensions, form, **{"HX-Request": "true"}).status_code == 200
    use(scene, pages, value)
    bring_own_vault(scene, alice, pages)
    keys_of(scene)
    every_page(alice, pages)
    alice.post("/auth/logout/", {})

    scan = Scan(scene.canaries)
    scan_answers(scan, alice, mallory)
    scan_queue(scan, scene.portal)
    container = scene.directory / "container"
    scan.files(scene.directory, leave_out=[*container.iterdir(), *scene.vault.credentials.rglob("*")])
    assert scan.hits == set()
    assert scan.scanned > 10_000_000, "the vault's storage alone is larger than this"

    at_rest = Scan(scene.canaries)
    at_rest.files(container)
    known_there = {"sync credential", "settings credential", "at-rest data key"}
    known_there |= {f"{half} at {mount}" for half in ("secret_id", "role_id") for mount in ("atoms", "environments")}
    assert {name for name, _ in at_rest.hits} == known_there


@pytest.mark.parametrize("written", ["{}", "/x?y={}", "x" * 7 + "{}", '{{"a": "{}"}}'])
def test_the_search_finds_what_is_hidden(tmp_path: Path, written: str) -> None:
    canary = 'plain-&<ü>"canary'
    for number, form in enumerate(sorted(forms(canary.encode()))):
        (tmp_path / f"{number}").write_bytes(written.encode().replace(b"{}", form))
        scan = Scan({"canary": canary})
        scan.files(tmp_path)
        assert scan.hits == {("canary", str(tmp_path / f"{number}"))}
        (tmp_path / f"{number}").unlink()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_finds_base64_of_a_longer_text(before: str) -> None:
    import base64

    scan = Scan({"canary": "0123456789abcdef"})
    scan.content("text", base64.b64encode(f"{before}0123456789abcdefz".encode()))
    assert scan.hits == {("canary", "text")}
