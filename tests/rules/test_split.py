"""Requests of a route are divided between backends by their shares."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config.model import Site
from gateway.config.split import Split as Model
from gateway.rules.compiler import compile_routes
from gateway.rules.routes import RouteTable
from gateway.rules.split import point_of
from gateway.rules.view import Assumed
from tests.rules.views import view

UP = {"canary": 1, "app": 1, "other": 1}


def table(split: dict[str, Any]) -> RouteTable:
    servers = {name: {"servers": [f"127.0.0.1:{port}"]} for port, name in enumerate(UP, 1)}
    site = Site.model_validate({"backends": servers, "routes": [{"split": split}]})
    return compile_routes(site, {name: name for name in UP})


def chosen(routes: RouteTable, *headers: str, up: dict[str, int] = UP) -> tuple[Any, bytes]:
    """The backend of a request, and the header lines for its client."""
    request = view(headers=headers)
    request.resources = Assumed({}, up)
    found = routes.find(request)
    return found, request.response_edits.listed()[1] if request.response_edits is not None else b""


def test_each_backend_gets_its_share_of_requests_without_a_key() -> None:
    routes = table({"canary": "20%", "other": "0%", "app": "80%"})
    counts = Counter(chosen(routes)[0] for _ in range(5000))
    assert counts["other"] == 0
    assert 800 < counts["canary"] < 1200  # 7 standard deviations


def test_each_backend_gets_its_share_of_keys_and_a_key_stays() -> None:
    few, more = (table({"to": {"canary": f"{n}%", "app": f"{100 - n}%"}, "by": "{header:User}"}) for n in (10, 20))
    before = {n: chosen(few, f"User: {n}")[0] for n in range(2000)}
    after = {n: chosen(more, f"User: {n}")[0] for n in range(2000)}
    assert 140 < sum(name == "canary" for name in before.values()) < 260
    assert all(after[n] == "canary" for n, name in before.items() if name == "canary")
    assert all(chosen(few, f"User: {n}")[0] == name for n, name in before.items())
    assert {chosen(few)[0] for _ in range(200)} == {"canary", "app"}  # an empty key is drawn


def test_a_client_gets_a_cookie_once_and_stays() -> None:
    routes = table({"to": {"canary": "50%", "app": "50%"}, "cookie": "release", "max_age": "1h"})
    for _ in range(20):
        name, line = chosen(routes)
        assert line.endswith(b"; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600\r\n")
        cookie = line.decode().removeprefix("Set-Cookie: ").partition(";")[0]
        assert chosen(routes, f"Cookie: a=b; {cookie}") == (name, b"")


def test_a_backend_without_servers_is_left_out_and_its_part_divided() -> None:
    routes = table({"to": {"canary": "50%", "other": "40%", "app": "10%"}, "by": "{header:User}"})
    down = {**UP, "canary": 0}
    moved: Counter[tuple[str, str]] = Counter()
    for n in range(2000):
        before = chosen(routes, f"User: {n}")[0]
        after = chosen(routes, f"User: {n}", up=down)[0]
        moved[before, after] += 1
    assert {pair for pair in moved if "canary" not in pair} == {("other", "other"), ("app", "app")}
    assert 0.7 < moved["canary", "other"] / (moved["canary", "other"] + moved["canary", "app"]) < 0.9
    assert chosen(routes, "User: 1", up={})[0] == chosen(routes, "User: 1")[0]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=3), st.binary(min_size=1, max_size=8))
def test_every_key_has_a_backend_with_a_share(parts: list[int], key: bytes) -> None:
    total = sum(parts) or 1
    shares = dict(zip(UP, parts, strict=False))
    if sum(parts) == 0:
        return
    routes = table({"to": {name: f"{part * 100 / total:.9f}%" for name, part in shares.items()}, "by": key.hex()})
    assert 0 <= point_of(key) <= 1
    assert shares[chosen(routes)[0]] > 0


@pytest.mark.parametrize("split, said", [
    ({"app": "5%"}, "the shares add up to 5%: together they must be 100%"),
    ({"app": "100%", "canary": "5%"}, "the shares add up to 105%"),
    ({"app": "100"}, "expected a share from 0% to 100%"),
    ({}, "expected at least one backend with its share, such as {canary: 5%, app: 95%}"),
    ({"to": {"app": "100%"}, "cookie": "a", "by": "{client}"}, "cookie and by cannot be combined"),
    ({"to": {"app": "100%"}, "max_age": "1h"}, "max_age needs cookie"),
])  # fmt: skip
def test_a_wrong_split_is_refused(split: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("{", "\\{")):
        Model.model_validate(split)


def test_a_backend_may_be_called_to() -> None:
    assert Model.model_validate({"to": "50%", "app": "50%"}).to == {"to": 0.5, "app": 0.5}
