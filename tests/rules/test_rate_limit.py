"""Rate limits as rules see them: keys of requests, and what a client over a limit is told."""

import pytest

from gateway.config import template
from gateway.rules.rate_limit import RateLimit
from gateway.rules.template import Template
from gateway.rules.view import View
from tests.rules.views import view

SECRET = bytes(range(16))
SECOND = 1_000_000_000


def limit(per: str | None = None, field: str = "", *, name: str = "a", **more: float) -> RateLimit:
    text = Template(template.parts(field, template.REDIRECT_FIELDS), {}, {}, url=False) if per == "template" else None
    return RateLimit(name, more.get("rate", 5.0), int(more.get("burst", 5)), per=per, field=field, template=text, secret=SECRET)  # fmt: skip


def seen(url: str = "http://a/x", client: str = "192.0.2.1", **headers: str) -> View:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return view(url=url, client=client, headers=lines)


@pytest.mark.parametrize(
    "per, field, one, same, other",
    [
        ("source", "", seen(), seen("http://b/y", X="1"), seen(client="192.0.2.2")),
        ("source", "", seen(client="2001:db8::1"), seen(client="2001:db8::2"), seen(client="2001:db8:0:1::1")),
        ("source", "", seen(client="192.0.2.1"), seen(client="::ffff:192.0.2.1"), seen(client="c000:201::")),
        ("header", "X-Key", seen(X_Key="a"), seen(x_key="a"), seen(X_Key="b")),
        ("header", "X-Key", seen(), seen(X_Key=""), seen(X_Key="b")),
        ("cookie", "id", seen(Cookie="x=1; id=a"), seen(Cookie="id=a"), seen(Cookie="id=b")),
        ("query", "k", seen("http://a/?k=%61"), seen("http://a/y?x=1&k=a"), seen("http://a/?k=b")),
        ("template", "{client} {path}", seen(), seen("http://b/x"), seen("http://a/y")),
    ],
)
def test_what_is_counted_together(per: str, field: str, one: View, same: View, other: View) -> None:
    counts = limit(per, field)
    assert counts.by.key_of(one) == counts.by.key_of(same)
    assert counts.by.key_of(one) != counts.by.key_of(other)


@pytest.mark.parametrize("per, one, other", [
    ("cookie", seen(Cookie="id=a"), seen(Cookie="id=b")), ("header", seen(id="a"), seen(id="b")),
    ("query", seen("http://a/?id=a"), seen("http://a/?id=b")),
])  # fmt: skip
def test_a_request_with_several_values_counts_for_each(per: str, one: View, other: View) -> None:
    def several(count: int) -> View:
        names = [chr(ord("a") + number) for number in range(count)]
        if per == "query":
            return seen("http://a/?" + "&".join(f"id={name}&id=a" for name in names))
        if per == "cookie":
            return seen(Cookie="; ".join(f"id={name}; id= a " for name in names))
        return view(headers=[f"id: {name}" for name in [*names, "a"]])

    by = limit(per, "id").by
    assert by.keys_of(several(2)) == [by.key_of(one), by.key_of(other)]
    assert len(by.keys_of(several(8))) == 8
    # Where one key must do, and if there are too many, they are like requests without a value.
    assert by.key_of(several(2)) == by.key_of(seen())
    assert by.keys_of(several(9)) == by.keys_of(seen()) == [by.key_of(seen())]


def test_all_requests_share_a_rate_by_nothing() -> None:
    assert limit().by.key_of(seen()) == limit().by.key_of(seen("http://b/y", client="192.0.2.9", X="1"))


def test_limits_do_not_share_keys() -> None:
    one, other, secret = limit("source"), limit("source", name="b"), limit("source", burst=6)
    assert len({item.by.key_of(seen()) for item in (one, other, secret)}) == 3


def test_keys_depend_on_the_secret_of_the_table() -> None:
    one = RateLimit("a", 5.0, 5, per="source", secret=SECRET)
    other = RateLimit("a", 5.0, 5, per="source", secret=bytes(16))
    assert one.by.key_of(seen()) != other.by.key_of(seen())


@pytest.mark.parametrize(
    "rate, burst, policy",
    [
        (50.0, 10, b'"a";q=50;w=1'),
        (5.0, 10, b'"a";q=10;w=2'),
        (1 / 60, 1, b'"a";q=1;w=60'),
        (10 / 3600, 3, b'"a";q=3;w=1080'),
        (2.5, 1, b'"a";q=2;w=1'),
    ],
)
def test_the_policy_is_never_more_than_the_rate(rate: float, burst: int, policy: bytes) -> None:
    lines = limit(rate=rate, burst=burst).refused(1)
    assert lines == b"Retry-After: 1\r\nRateLimit-Policy: " + policy + b'\r\nRateLimit: "a";r=0;t=1\r\n'  # fmt: skip


@pytest.mark.parametrize("wait, seconds", [(1, 1), (SECOND, 1), (SECOND + 1, 2), (90 * SECOND - 5, 90)])
def test_a_client_never_comes_back_too_early(wait: int, seconds: int) -> None:
    lines = limit().refused(wait)
    assert f"Retry-After: {seconds}\r\n".encode() in lines
    assert f"r=0;t={seconds}\r\n".encode() in lines
