"""The table of what operators may ask and change, and its description."""

import json
import warnings
from pathlib import Path

import pytest

from gateway.admin.api import OPERATIONS, ROOT, Api, Refused, description, servers
from gateway.admin.server import Asked
from tests.admin import reports

DOCS = Path(__file__).parents[2] / "docs"


class Gateway:
    """One whose supervisor refuses everything."""

    def __init__(self):
        self.orders = []

    def report(self):
        return reports.control()

    def overheard(self):
        return reports.heartbeat()

    async def order(self, command, _):
        self.orders.append(command)
        raise Refused("the gateway stops")

    async def order_heartbeat(self, command):
        self.orders.append(command)
        return reports.heartbeat(admin_state="drain")

    async def in_force(self, serial, seconds):
        raise AssertionError(serial, seconds)


class Answering(Gateway):
    """One whose supervisor answers every order with `found`."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    async def order(self, *_):
        return self.found


async def post(api, path, **body):
    """Status and text of the answer to alice."""
    answer = api.endpoints()[ROOT + path]["POST"].answer
    assert answer is not None
    status, _, text = await answer(Asked(reports.ALICE, body))
    return status, text


def test_the_guide_lists_every_operation():
    guide = (DOCS / "operations.md").read_text()
    rows = [f"| {one.method} | `{one.path}` | {one.role} | {one.summary} |\n" for one in OPERATIONS]
    assert [row for row in rows if row not in guide] == []


def test_every_operation_is_described_once_with_its_role():
    paths = description()["paths"]
    assert [(path, method.upper()) for path, at in paths.items() for method in at] == [
        (one.path, one.method) for one in OPERATIONS
    ]
    assert {one["x-role"] for at in paths.values() for method, one in at.items() if method == "post"} == {
        "read",
        "operate",
        "configure",
    }
    assert paths["/drain"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Target"
    }


def test_every_reference_of_the_description_leads_to_a_schema():
    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else ())
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from references(inner)

    found = set(references(description()))
    assert len(found) > 20
    assert {name.removeprefix("#/components/schemas/") for name in found} <= description()["components"][
        "schemas"
    ].keys()


def test_servers_have_their_full_names():
    assert [one.name for one in servers(reports.control())] == ["app/app1"]


async def test_a_refused_change_is_in_the_audit_log(caplog):
    caplog.set_level("INFO")
    gateway = Gateway()
    api = Api(gateway)
    status, body = await post(api, "/drain", target="app/app1")
    assert (status, body) == (409, '{"error":"the gateway stops"}')
    assert gateway.orders == ["drain app/app1"]
    assert "audit: alice: drain app/app1: from null to null: the gateway stops" in caplog.text
    (change,) = api._audit.last
    assert (change.who, change.result) == ("alice", "the gateway stops")


async def test_the_audit_log_keeps_the_first_line_of_a_refused_reload(caplog):
    caplog.set_level("INFO")
    api = Api(RefusingGateway())
    status, body = await post(api, "/reload")
    problem = "site.yaml:1:1: unknown key x"
    error = f"reload refused; keeping version 7:\n{problem}"
    assert (status, json.loads(body)) == (409, {"error": error, "version": 1, "history": 7, "problems": problem})
    assert "site.yaml:1:1: unknown key x" in caplog.text
    (change,) = api._audit.last
    assert change.result == "reload refused; keeping version 7"


class RefusingGateway(Gateway):
    async def order(self, *_):
        return {"accepted": False, "version": 1, "history": 7, "problems": "site.yaml:1:1: unknown key x"}


async def test_evacuation_is_an_order_for_the_heartbeat():
    gateway = Gateway()
    status, body = await post(Api(gateway), "/evacuate")
    assert (status, gateway.orders) == (200, ["drain"])
    assert '"admin_state":"drain"' in body


@pytest.mark.parametrize(
    "path, body, found",
    [
        ("/explain", {"request": "GET http://a/"}, {"request": "GET http://a/", "text": "1.", "decision": {"a": [1]}}),
        ("/check", {"text": "secret"}, {
            "ok": False, "diff": "+secret", "tests": [{"line": 1, "request": "a", "passed": True, "why": ""}],
            "problems": [{"line": 1, "column": 2, "severity": "error", "message": "secret"}]}),
        ("/tests", {}, {"tests": [{"line": 1, "request": "a", "passed": False, "why": "404"}]}),
    ],
)  # fmt: skip
async def test_the_answer_to_an_inquiry_leaves_nothing_in_the_log(path, body, found):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status, text = await post(Api(Answering(found)), path, **body)
    assert (status, json.loads(text)) == (200, found)


async def test_an_answer_to_an_inquiry_of_another_form_is_refused_without_its_text():
    status, text = await post(Api(Answering({"problems": "secret"})), "/check", text="secret")
    assert (status, "secret" in text) == (409, False)
