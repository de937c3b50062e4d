"""Environment variables in the values of a site file."""

import pytest

from gateway.config.environment import fill
from gateway.config.problem import Finding
from tests.config.conftest import Load, Refuse

SITE = """\
frontends: [{listen: "127.0.0.1:${TEST_PORT:-8080}", limits: {header_count: "${TEST_COUNT:-50}"}}]
backends: {app: {servers: ["${TEST_HOST}:81"]}}
"""


@pytest.mark.parametrize("text, value", [
    ("${A}", "one"),
    ("x-${A}-${B}", "x-one-2"),
    ("${B}", 2),
    ("'${B}'", "'2'"),
    ("${C:-three}", "three"),
    ("${C:-}", None),
    ("${A:-other}", "one"),
    ("$${A}", "${A}"),
    ("$A {host} $5", "$A {host} $5"),
])  # fmt: skip
def test_values(text: str, value: object) -> None:
    data = {"a": [text], text: 1}
    used, findings = fill(data, {"A": "one", "B": "2"})
    assert data == {"a": [value], text: 1}
    assert not findings
    assert used.keys() <= {"A", "B", "C"}


def test_an_unset_variable_is_reported_at_its_place() -> None:
    data = {"a": {"b": "x${NONE}"}}
    message = "the environment variable NONE is not set; ${NONE:-default} gives a default"
    assert fill(data, {}) == ({}, [Finding(("a", "b"), message, offset=1)])


@pytest.mark.parametrize("text, offset, why", [
    ("a${", 1, "a variable is not closed: write ${NAME}"),
    ("${A}${B", 4, "a variable is not closed"),
    ("${X Y}", 0, "X Y is not the name of a variable: write ${NAME}"),
    ("$${ ${1}", 4, "1 is not the name of a variable"),
])  # fmt: skip
def test_what_begins_as_a_variable_and_is_none(text: str, offset: int, why: str) -> None:
    _, (finding,) = fill({"a": text}, {"A": "one"})
    assert (finding.loc, finding.offset) == (("a",), offset)
    assert finding.message.startswith(why)
    assert finding.message.endswith("and $${ for the text ${")


def test_aliases_are_filled_once() -> None:
    shared = ["${A}"]
    data = {"a": shared, "b": shared}
    assert fill(data, {"A": "$${A}"})[1] == []
    assert data == {"a": ["$${A}"], "b": ["$${A}"]}


def test_a_site_file(load_text: Load, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(SITE.replace('"${TEST_HOST}', '»"${TEST_HOST}'), "the environment variable TEST_HOST is not set")
    monkeypatch.setenv("TEST_HOST", "127.0.0.1")
    first = load_text(SITE)
    assert str(first.site.frontends[0].listen[0]) == "127.0.0.1:8080"
    assert first.site.frontends[0].limits.header_count == 50
    monkeypatch.setenv("TEST_HOST", "127.0.0.2")
    second = load_text(SITE)
    assert str(second.site.backends["app"].servers[0].address) == "127.0.0.2:81"
    assert first.digest != second.digest
