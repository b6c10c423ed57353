"""The web server behind nginx, by the very block of docs/operations.md: only ports and files are others.

Without it 200 clients that send 80 bytes a second kept `/live` from answering for as long as they went on; so did 40.
"""

import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from ssl import create_default_context
from typing import Any

import pytest
import requests
from django.conf import settings as at_start
from django.urls import reverse
from requests.adapters import HTTPAdapter

from tests.conftest import PASSWORD
from tests.customer import make_certificates
from tests.drips import EVERY, Drips
from tests.kmsruntime.container import Container, save
from tests.live import ROOT, LivePortal
from tests.servers import _listens, _wait, free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
ROUNDS, WITHIN = 15, 2  # seconds
ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 6))  # none of which has more bodies than may be under way
MIB = 1024 * 1024


@dataclass
class Front:
    """The portal as everybody meets it."""

    portal: LivePortal
    ca: Path

    @property
    def url(self) -> str:
        return self.portal.url

    def browser(self, source: str = "127.0.0.1") -> "Browser":
        return Browser(self, source)

    def drips(self, count: int, *sources: str) -> Drips:
        context = create_default_context(cafile=str(self.ca))
        return Drips(self.url, count, *sources, named=int(self.portal.environment["KMS_PORT"]), context=context)


class _From(HTTPAdapter):
    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, source_address=(self.source, 0))


class Browser:
    """Somebody at an address of this machine's own."""

    def __init__(self, front: Front, source: str) -> None:
        self.url, self.session = front.url, requests.Session()
        self.session.trust_env, self.session.verify = False, str(front.ca)
        self.session.mount("https://", _From(source))

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, allow_redirects=False)

    def post(self, path: str, form: dict[str, str], **headers: str) -> requests.Response:
        token = next((cookie.value for cookie in self.session.cookies if cookie.name.startswith("csrf-")), "")
        form, headers = {"csrfmiddlewaretoken": token or "", **form}, {"Referer": self.url + path, **headers}
        return self.session.post(self.url + path, form, headers=headers, timeout=60, allow_redirects=False)

    def sign_in(self, email: str, password: str, **headers: str) -> requests.Response:
        self.get("/auth/login/")
        return self.post("/auth/login/", {"login": email, "password": password}, **headers)


def documented() -> str:
    found = re.search("```nginx\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def put(block: str, changes: dict[str, str]) -> str:
    for before, after in changes.items():
        assert block.count(before) == 1, before
        block = block.replace(before, after)
    return block


@pytest.fixture
def front(portal: LivePortal, tmp_path: Path) -> Iterator[Front]:
    """nginx, and behind it a web server of its own on the live portal's database and vault, with the settings that go with it."""
    port, behind, directory = free_port(), free_port(), tmp_path / "nginx"
    directory.mkdir()
    url = f"https://localhost:{port}"
    ca = make_certificates(directory, "DNS:localhost,IP:127.0.0.1")
    given = {"KMS_BEHIND_TLS_PROXY": "1", "KMS_TRUSTED_PROXIES": "1", "KMS_PORTAL_URL": url, "KMS_PORT": str(behind)}
    environment = portal.environment | given | {"KMS_ALLOWED_HOSTS": "localhost"}
    web = replace(
        portal,
        url=f"http://127.0.0.1:{behind}",
        directory=directory,
        environment=environment,
        processes={},
        valkey=None,
    )
    web.start("web")
    nginx = None
    try:
        web_answers(web)
        nginx = start_nginx(directory, port, behind)
        yield Front(replace(web, url=url), ca)
    finally:
        if nginx is not None:
            nginx.terminate()
            nginx.wait(20)
        web.stop()


def web_answers(web: LivePortal) -> None:
    _wait(web.processes["web"], web.directory, lambda: _listens(int(web.url.rpartition(":")[2])))


def start_nginx(directory: Path, port: int, behind: int) -> "subprocess.Popen[bytes]":
    block = put(
        documented(),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{behind};",
            "/etc/ssl/kms.example.org/fullchain.pem": f"{directory}/server.crt",
            "/etc/ssl/kms.example.org/privkey.pem": f"{directory}/server.key",
            "/var/log/nginx/kms-portal.log": f"{directory}/error.log",
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    start = f"daemon off;\npid {directory}/pid;\nworker_processes 1;\nevents {{ worker_connections 1024; }}\n"
    (directory / "nginx.conf").write_text(f"{start}http {{\n{places}{block}}}\n")
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "log")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait(process, directory, lambda: _listens(port))
    for kind in kinds:
        shutil.rmtree(directory / kind)  # a request or an answer that would be written to the disk fails
    return process


@pytest.fixture
def container(front: Front, tmp_path: Path) -> Container:
    """Enrolled through nginx."""
    return Container(front.portal, tmp_path / "container").enrol(None, "--portal-ca", str(front.ca))


def page_of(front: Front) -> str:
    stage = front.portal.stage
    return reverse("extensions:environment_extensions", args=[stage.account.code, stage.production.pk])


def test_the_size_is_the_one_that_the_portal_takes() -> None:
    assert f"client_max_body_size {at_start.DATA_UPLOAD_MAX_MEMORY_SIZE // MIB}m;" in documented()
    assert at_start.DATA_UPLOAD_MAX_MEMORY_SIZE % MIB == 0


def test_a_page_a_sign_in_and_large_bodies_without_a_file(front: Front) -> None:
    alice = front.browser()
    assert "csrfmiddlewaretoken" in alice.get("/auth/login/").text
    assert alice.sign_in(front.portal.stage.alice.email, PASSWORD).status_code == 302
    path = page_of(front)
    assert alice.get(path).status_code == 200
    key = front.portal.stage.field("password").pk
    large = {"expected_revision": "0", f"secret.{key}": "one", "x": "a" * (12 * MIB)}
    assert alice.post(path, large).status_code == 302, "it reaches the portal, without a file on the way"
    assert alice.post(path, {"x": "a" * (13 * MIB)}).status_code == 413
    assert alice.post("/auth/login/", {"x": "a" * (65 * 1024)}).status_code == 413
    assert alice.post("/api/atom/v1/enrol", {"x": "a" * (257 * 1024)}).status_code == 413
    elsewhere = alice.post(path, {"expected_revision": "1"}, Referer="https://elsewhere.example.org/")
    assert elsewhere.status_code == 403, "to the portal it is https, where the page before counts"


def test_the_clients_own_address_counts_and_not_what_it_says(front: Front) -> None:
    alice, guesser = front.portal.stage.alice.email, front.browser("127.0.0.3")
    guesser.get("/auth/login/")
    for number in range(12):
        said = {"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": f"198.51.100.{number}"}
        guess = guesser.post("/auth/login/", {"login": f"guess-{number}@example.com", "password": "guess"}, **said)
    assert "Too many" in guess.text
    assert guesser.sign_in(alice, PASSWORD, **{"X-Forwarded-For": "198.51.100.99"}).status_code == 200
    assert front.browser("127.0.0.4").sign_in(alice, PASSWORD).status_code == 302


def test_two_hundred_slow_clients_keep_nobody_waiting(front: Front, container: Container) -> None:
    """Half of them with heads, half with bodies, to pages and to the API."""
    seconds: dict[str, list[float]] = {"live": [], "sync": []}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        answer = act()
        seconds[name].append(time.monotonic() - began)
        return answer

    browser = front.browser()
    with front.drips(200, *ADDRESSES).dripping() as drips:
        for number in range(ROUNDS):
            wanted = drips.sent + 1
            while drips.sent < wanted:
                threading.Event().wait(EVERY / 10)
            assert timed("live", lambda: browser.get("/live")).text == "ok\n"
            save(front.portal.stage, password=f"value {number}")
            assert timed("sync", container.synchroniser().sync).result == "updated"
        assert drips.sent >= ROUNDS
    assert max(statistics.median(some) for some in seconds.values()) < WITHIN, seconds


def test_one_address_has_so_many_requests_under_way(front: Front) -> None:
    """The fifty-first slow body is refused at once, and so is a request; another address notices nothing."""
    with front.drips(110, "127.0.0.2").dripping() as drips:
        wanted = drips.sent + 2
        while drips.sent < wanted:
            threading.Event().wait(EVERY / 10)
        assert front.browser("127.0.0.2").get("/live").status_code == 429
        assert front.browser("127.0.0.3").get("/live").status_code == 200
