"""What is typed is what a program gets, to the last space; and a private key typed into a browser stays one."""

import subprocess

import pytest

from tests.extensions.dialog import Dialog
from tests.kmsruntime.container import Container

pytestmark = pytest.mark.django_db(transaction=True)
EXACT = ["  two spaces, then one ", "\tline\nline\n", "'\"\\$(id)`id`%s{}&amp;<b>", "ключ 鍵 🔑", " ", "0", "null"]


def private_key() -> str:
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], check=True, capture_output=True, text=True)
    return made.stdout


def test_values_arrive_exactly(enrolled: Container) -> None:
    dialog = Dialog(enrolled.stage)
    for number, typed in enumerate(EXACT, start=1):
        assert dialog.post(secret_password=typed, value_user=f"{typed}|{number}").status_code == 302
        enrolled.sync()
        assert enrolled.command("get", "Orders database", "password").stdout == typed
        assert enrolled.command("get", "Orders database", "user").stdout == f"{typed}|{number}"


def test_a_private_key_from_a_browser_is_the_file_it_was(enrolled: Container) -> None:
    key = private_key()
    Dialog(enrolled.stage).post(secret_password=key.replace("\n", "\r\n"))  # what a text area submits
    enrolled.sync()
    given = subprocess.run(enrolled.words("get", "Orders database", "password"), check=True, capture_output=True).stdout
    assert given == key.encode()
    read = subprocess.run(["openssl", "pkey", "-noout", "-text"], input=given, capture_output=True, check=True).stdout
    assert b"ED25519 Private-Key" in read
