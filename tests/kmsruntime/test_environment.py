"""Which values a program gets, under which names. No server needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsruntime.environment import _RESERVED, default_name, find, parsed_map, value_of, variables
from kmsruntime.errors import RuntimeProblem
from kmsruntime.store.format import Store
from kmsruntime.store.index import Entries
from tests.kmsruntime.pieces import BILLING, ENTRIES, ORDERS, at_rest_key, header, plain, property_, sealed, store_file


def made(tmp_path: Path, entries: Entries = ENTRIES) -> Store:
    file = store_file(tmp_path)
    file.write(header(), entries, file.prepare(at_rest_key()))
    found = file.read()
    assert found is not None
    return found


def given(
    store: Store, *mapped: str, only: tuple[str, ...] = (), present: dict[str, str] | None = None
) -> dict[str, str]:
    found = variables(store, [parsed_map(text) for text in mapped], only, present or {}, lambda line: None)
    return {gift.name: gift.value.decode() for gift in found}


def test_the_default_names(tmp_path: Path) -> None:
    assert given(made(tmp_path)) == {
        "ORDERS_DB_PASSWORD": "pa55-canary ü",
        "ORDERS_DB_USER": "orders",
        "BILLING_PASSWORD": "other-canary",
        "PROPERTY_REGION": "eu",
    }


def test_a_name_never_starts_with_a_digit(tmp_path: Path) -> None:
    store = made(tmp_path, [sealed("3 Ørders-db", "pass.word", "x")])
    assert [default_name(held) for held in store.held] == ["_3__RDERS_DB_PASS_WORD"]


def test_a_missing_value_is_left_out_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    found = variables(made(tmp_path), [], ["Orders DB"], {}, said.append)
    assert {gift.name for gift in found} == {"ORDERS_DB_PASSWORD", "ORDERS_DB_USER"}
    assert said == ["Orders DB/apiKey is missing, nobody has entered it in the portal: left out."]


def test_map_gives_another_name_and_only_chooses(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert given(store, "PGPASSWORD=Orders DB/password", only=("Orders DB/user",)) == {
        "PGPASSWORD": "pa55-canary ü",
        "ORDERS_DB_USER": "orders",
    }
    assert set(given(store, only=("property",))) == {"PROPERTY_REGION"}
    assert set(given(store, only=("Billing", "property/region"))) == {"BILLING_PASSWORD", "PROPERTY_REGION"}
    assert given(store, f"X={ORDERS}/user", only=("Billing",))["X"] == "orders"


COLLIDING: Entries = [sealed("Orders DB", "password", "1"), sealed("orders-db", "password", "2", connection=BILLING)]


def test_two_values_never_share_a_name(tmp_path: Path) -> None:
    with pytest.raises(RuntimeProblem, match="Orders DB/password and orders-db/password would both be ORDERS_DB_PASS"):
        given(made(tmp_path, COLLIDING))
    assert len(given(made(tmp_path, COLLIDING), "OTHER=orders-db/password")) == 2


@pytest.mark.parametrize(
    ("entries", "mapped", "only", "code"),
    [
        (ENTRIES, ("PG PASSWORD=Orders DB/password",), (), "name_invalid"),
        (ENTRIES, ("=Orders DB/password",), (), "name_invalid"),
        (ENTRIES, ("PGPASSWORD",), (), "map_invalid"),
        (ENTRIES, ("PGPASSWORD=",), (), "map_invalid"),
        (ENTRIES, ("PGPASSWORD=Orders DB/nothing",), (), "value_missing"),
        (ENTRIES, ("PGPASSWORD=Orders DB/apiKey",), (), "value_missing"),
        (ENTRIES, (), ("Nothing",), "value_missing"),
        (ENTRIES, ("X=Orders DB/user", "X=property/region"), (), "names_collide"),
        ([sealed("Orders", "password", "a\0b")], (), (), "value_has_nul"),
        ([sealed("Orders", "password", "x" * 140_000)], (), (), "value_too_long"),
        ([sealed("LD", "preload", "evil.so")], (), (), "name_reserved"),
        ([sealed("Python", "path", "/tmp")], (), (), "name_reserved"),
        ([sealed("My", "home", "x")], (), (), "name_reserved"),
    ],
)
def test_what_cannot_be_given_is_refused(
    tmp_path: Path, entries: Entries, mapped: tuple[str, ...], only: tuple[str, ...], code: str
) -> None:
    with pytest.raises(RuntimeProblem) as caught:
        given(made(tmp_path, entries), *mapped, only=only, present={"MY_HOME": "/home/me"})
    assert caught.value.code == code
    assert "evil" not in caught.value.sentence


LOADERS = (
    "LD_PRELOAD DOTNET_STARTUP_HOOKS LUA_INIT LUA_INIT_5_4 OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES GLIBC_TUNABLES "
    "MAVEN_OPTS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS R_PROFILE_USER R_ENVIRON_USER PHP_INI_SCAN_DIR PHPRC "
    "CORECLR_PROFILER COR_PROFILER_PATH GTK_MODULES GIO_EXTRA_MODULES SSL_CERT_FILE SSL_CERT_DIR PGSERVICEFILE PGSYSCONFDIR "
    "AWS_CONFIG_FILE BUNDLE_GEMFILE CLASSPATH HTTPS_PROXY GIT_SSH_COMMAND LESSOPEN BASH_ENV NODE_OPTIONS KRB5_CONFIG "
    "LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES MALLOC_CONF ASAN_OPTIONS PYTHONSTARTUP PYTHON_HISTORY PIP_INDEX_URL "
    "NODE_PATH PERL5OPT PERL5LIB RUBYOPT RUBYLIB KAFKA_OPTS ES_JAVA_OPTS HADOOP_JAVA_OPTIONS BASH_FUNC_x PS4 SHELLOPTS IFS "
    "KMS_RUNTIME_DIR VAULT_ADDR VAULT_CACERT AUTH_TOKEN BAO_ADDR NO_PROXY ALL_PROXY DOCKER_CONTEXT ANSIBLE_CONFIG "
    "TF_CLI_CONFIG_FILE SYSTEMD_PAGER SUDO_ASKPASS LISTEN_FDS AWS_ENDPOINT_URL CARGO_TARGET_DIR MONO_PATH PKG_CONFIG_PATH"
)


@pytest.mark.parametrize("name", LOADERS.split())
def test_names_that_loaders_and_interpreters_obey_are_reserved(name: str) -> None:
    assert _RESERVED.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [
        "ORDERS_PASSWORD",
        "PGPASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "MAVEN_PASSWORD",
        "NPM_TOKEN",
        "MYSQL_PWD",
        "DOCKER_PASSWORD",
        "LISTENER_URL",
    ],
)
def test_other_names_are_not(name: str) -> None:
    assert not _RESERVED.fullmatch(name)


def test_a_mapped_name_may_replace_what_the_environment_has(tmp_path: Path) -> None:
    assert given(made(tmp_path), "HOME=property/region", only=("Billing",), present={"HOME": "/root"})["HOME"] == "eu"


def test_get_finds_by_name_and_by_id(tmp_path: Path) -> None:
    store = made(tmp_path, [*ENTRIES, property_("Orders DB/x", "odd"), plain("Orders", "a/b", "slash")])
    assert value_of(store, find(store, "Orders DB/password")) == "pa55-canary ü".encode()
    assert value_of(store, find(store, f"{BILLING}/password")) == b"other-canary"
    assert value_of(store, find(store, "property/region")) == b"eu"
    assert value_of(store, find(store, "Orders/a/b")) == b"slash"


def test_an_ambiguous_name_is_refused_with_the_ids(tmp_path: Path) -> None:
    store = made(tmp_path, [sealed("Same", "password", "1"), sealed("Same", "password", "2", connection=BILLING)])
    with pytest.raises(RuntimeProblem, match=f"use the id, one of {ORDERS}, {BILLING}"):
        find(store, "Same/password")


def test_a_connection_called_property_answers_by_its_id_only(tmp_path: Path) -> None:
    """`--property region` gave its field, where there was no such property."""
    store = made(tmp_path, [plain("property", "region", "of a connection")])
    with pytest.raises(RuntimeProblem):
        find(store, "property/region")
    assert given(store, "REGION=" + f"{ORDERS}/region") == {"REGION": "of a connection"}
    both = made(tmp_path, [plain("property", "region", "of a connection"), property_("region", "eu")])
    assert value_of(both, find(both, "property/region")) == b"eu"
    assert given(both, only=("property",)) == {"PROPERTY_REGION": "eu"}
