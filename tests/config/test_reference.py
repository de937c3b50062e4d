"""The example files: they load, and the reference leaves nothing out."""

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.config import Loaded, explain, load
from gateway.config.access_log import LOG_FIELDS
from gateway.config.document import Document
from gateway.config.model import Limits, Queue, Retries, Timeouts
from gateway.config.policies import POLICIES
from gateway.config.template import REDIRECT_FIELDS
from gateway.explain import trial
from tests.config.test_json_schema import SCHEMA, valid
from tests.support.certificates import Authority
from tests.support.places import PLACES
from tests.support.places import write as write_places

CONF = Path(__file__).parents[2] / "conf"
REFERENCE = (CONF / "reference.yaml").read_text()


@pytest.fixture
def loaded(tmp_path: Path, authority: Authority) -> Loaded:
    """The reference file with what it leaves to its reader: certificates and a key."""
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    (conf / "tls").mkdir()
    for name in ("internal-ca", "clients", "authority"):
        shutil.copy(authority.ca, conf / "tls" / f"{name}.crt")
    for name in ("www", "shop", "gateway"):
        pair = authority.issue(f"{name}.example.com")
        shutil.copy(pair.cert, conf / "tls" / f"{name}.crt")
        shutil.copy(pair.key, conf / "tls" / f"{name}.key")
        (conf / "tls" / f"{name}.ocsp").write_bytes(authority.ocsp(pair))
    live = authority.issue("live.example.com")
    (conf / "tls" / "live").mkdir()
    shutil.copy(live.cert, conf / "tls" / "live" / "live.crt")
    shutil.copy(live.key, conf / "tls" / "live" / "live.key")
    for name in (
        "reports.secret",
        "app3.key",
        "affinity.key",
        "cluster.key",
        "sites.key",
        "tickets.key",
        "admin.token",
        "alice.token",
        "authority.key",
    ):
        (conf / name).touch(mode=0o600)
        (conf / name).write_bytes(b"0123456789abcdef")
    (conf / "example.com.key").touch(mode=0o600)
    signing = ec.generate_private_key(ec.SECP256R1())
    (conf / "example.com.key").write_bytes(signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (conf / "update.key").touch(mode=0o600)
    (conf / "update.key").write_text("hmac-sha256:gateway:MDEyMzQ1Njc4OWFiY2RlZg==")
    write_places(conf / "GeoLite2-City.mmdb", PLACES)
    (conf / "users").write_text("anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nbert:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    (conf / "users").chmod(0o640)
    return load(conf / "reference.yaml", lambda _, hosts: dict.fromkeys(hosts, "127.0.0.1"))


def test_the_reference_loads_without_a_warning(loaded: Loaded) -> None:
    assert loaded.warnings == ()
    assert len(loaded.site.routes) == 24
    assert len(loaded.files) == 22


def keys(value: Any, at: tuple[str | int, ...] = ()) -> set[tuple[str, str]]:
    """(mapping, key) of every key of a file's data."""
    found: set[tuple[str, str]] = set()
    if isinstance(value, dict):
        found |= {(explain.pattern(at), key) for key in value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found |= keys(item, (*at, key))
    return found


COMMENTED = {("load_reports", "key_file"), ("qos.sessions.key", "url")}
"""Keys that `check` warns about, or that exclude another: the reference has them in a comment."""


def test_the_reference_has_every_key() -> None:
    assert all(re.search(rf"\n *# {key}: ", REFERENCE) for _, key in COMMENTED)
    wanted = {(mapping, key) for mapping, names in explain.vocabulary().items() for key in names}
    found = keys(Document(REFERENCE).data)
    found |= {("qos.classes.*.match", key) for mapping, key in found if mapping == "routes.*.match"}
    assert wanted - found == COMMENTED


@pytest.mark.parametrize("words", [POLICIES, LOG_FIELDS, REDIRECT_FIELDS])
def test_the_reference_has_every_word(words: tuple[str, ...]) -> None:
    assert [word for word in words if word not in REFERENCE] == []


def test_the_guide_says_what_each_field_of_a_log_line_is() -> None:
    guide = (CONF.parent / "docs" / "operations.md").read_text()
    assert [name for name, what in LOG_FIELDS.items() if f"| `{{{name}}}` | {what} |\n" not in guide] == []


def test_defaults_the_reference_states_are_true(loaded: Loaded) -> None:
    assert loaded.site.frontends[0].limits == Limits()
    assert loaded.site.backends["app"].timeouts == Timeouts()
    assert loaded.site.backends["app"].retries == Retries()
    assert loaded.site.backends["app"].queue == Queue()


FILES = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml") if path.name != "agent.yaml")


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("sites/", "docker/"))])
def test_the_schema_accepts_it(name: str) -> None:
    assert valid(Document((CONF / name).read_text()).data, SCHEMA)


def test_the_reference_passes_its_own_tests(loaded: Loaded) -> None:
    assert [verdict.summary for verdict in trial.run(loaded)] == [""] * 6


def test_the_smallest_file_loads() -> None:
    loaded = load(CONF / "minimal.yaml")
    assert loaded.warnings == ()
    assert loaded.site.routes[0].backend == "app"


def test_the_page_is_what_the_schema_says() -> None:
    page = runpy.run_path(str(CONF.parent / ".ci" / "reference.py"))["page"]()
    assert (CONF.parent / "docs" / "reference.md").read_text() == page, "run: make reference"
    keys = {key for model in SCHEMA["$defs"].values() for key in model.get("properties", {})}
    assert [key for key in keys if f"| `{key}` |" not in page] == []
