"""One normal form of a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.target import normal_path


@pytest.mark.parametrize("path, normal", [
    (b"/", b"/"), (b"/a/b", b"/a/b"), (b"/a%2Fb", b"/a%2Fb"), (b"/a%2fb", b"/a%2Fb"), (b"/%7euser", b"/~user"),
    (b"/%61dmin", b"/admin"), (b"/%2e%2e/admin", b"/admin"), (b"/a/../admin", b"/admin"), (b"/a/./b", b"/a/b"),
    (b"/a/b/..", b"/a/"), (b"/..", b"/"), (b"/.", b"/"), (b"/../../a", b"/a"), (b"//a", b"//a"), (b"/a//../b", b"/a/b"),
    (b"/a;b=c", b"/a;b=c"), (b'/a{b}|"', b"/a%7Bb%7D%7C%22"), (b"/%c3%a9", b"/%C3%A9"), (b"/...", b"/..."),
    (b"/%25", b"/%25"), (b"/a%3Fb", b"/a%3Fb"), (b"/%0d%0aX:1", b"/%0D%0AX:1"),
])  # fmt: skip
def test_normal_form(path: bytes, normal: bytes) -> None:
    assert normal_path(path) == normal


@pytest.mark.parametrize("path", [
    b"", b"a", b"/%", b"/%4", b"/%zz", b"/%00", b"/a\\b", b"/a%2f..%2fadmin", b"/..;/admin", b"//evil/..;/", b"/..%2fa", b"/..%3b/admin",
    b"/a%5c..", b"/a/..;x=y/b", b"/%2e%2e%2fa",
])  # fmt: skip
def test_refuses(path: bytes) -> None:
    assert normal_path(path) is None


@given(
    st.lists(st.sampled_from([b"a", b".", b"..", b"%2e", b"%2E%2e", b"%2f", b"", b"b%41", b"c;d"])).map(
        lambda parts: b"/" + b"/".join(parts)
    )
)
def test_normal_form_is_stable_and_free_of_dots(path: bytes) -> None:
    normal = normal_path(path)
    if normal is not None:
        assert normal_path(normal) == normal
        assert not {b".", b".."} & set(normal.split(b"/"))
