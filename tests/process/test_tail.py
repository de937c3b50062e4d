"""What an operator may ask a tail for: read from a socket, by a supervisor that is root."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.process.tail import Wanted
from gateway.process.tail_limits import MAX_WANTED

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["when", "outcomes", "request_id", "steps", "most", "per_second", "other"])


def test_what_a_command_asks_for_arrives_as_it_was_meant() -> None:
    wanted = Wanted.of(
        'method == "POST" && headers["x-debug"] == "ü"',
        outcomes=frozenset({"server_timeout", "ok"}),
        request_id="abc",
        steps=True,
        most=3,
        per_second=100,
    )
    text = wanted.text()
    assert text.isascii()
    assert "\n" not in text
    assert Wanted.parse(text) == wanted
    assert Wanted.parse(Wanted().text()) == Wanted()


@given(st.dictionaries(KEYS, JSON))
def test_anything_else_is_refused_as_a_wrong_value(said: dict[str, object]) -> None:
    with contextlib.suppress(ValueError):
        Wanted.parse(json.dumps(said))


@given(st.text(max_size=200))
def test_any_expression_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        Wanted.parse(json.dumps({"when": text}))


@pytest.mark.parametrize(
    "text",
    [
        "[" * MAX_WANTED,
        "1" * MAX_WANTED,
        '{"most": 1e999}',
        '{"most": true}',
        json.dumps({"when": "(" * 4000}),
        json.dumps({"when": "!" * 4000 + "true"}),
        json.dumps({"when": 'up("app") > 0'}),
        json.dumps({"when": '1 == 1 || class in ["gold"]'}),
        json.dumps({"when": 'map("m", path) == "x"'}),
    ],
)
def test_a_hostile_text_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Wanted.parse(text)
