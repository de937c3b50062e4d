"""One normal form of a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.target import matched_path, matched_text, normal_path


@pytest.mark.parametrize("path, normal", [
    (b"/", b"/"), (b"/a/b", b"/a/b"), (b"/%7euser", b"/~user"), (b"/%61dmin", b"/admin"), (b"/%2e%2e/admin", b"/admin"),
    (b"/a/../admin", b"/admin"), (b"/a/./b", b"/a/b"), (b"/a/b/..", b"/a/"), (b"/..", b"/"), (b"/.", b"/"), (b"/../../a", b"/a"),
    (b"//a", b"/a"), (b"/a//../b", b"/b"), (b"/a;b=c", b"/a;b=c"), (b'/a{b}|"', b"/a%7Bb%7D%7C%22"), (b"/a[1]", b"/a%5B1%5D"),
    (b"/%c3%a9", b"/%C3%A9"), (b"/...", b"/..."), (b"/%25", b"/%25"), (b"/a%3Fb", b"/a%3Fb"), (b"/%0d%0aX:1", b"/%0D%0AX:1"),
    (b"///", b"/"), (b"//", b"/"), (b"/a///b//", b"/a/b/"), (b"/a/..//b", b"/b"), (b"/.//a", b"/a"), (b"/a/.//", b"/a/"),
    (b"/a/b/..//", b"/a/"), (b"/%40a", b"/%40a"),
])  # fmt: skip
def test_normal_form(path: bytes, normal: bytes) -> None:
    assert normal_path(path) == normal


@pytest.mark.parametrize("path, normal", [
    (b"//a", b"//a"), (b"/a//../b", b"/a/b"), (b"/a/..//b", b"//b"), (b"///", b"///"), (b"/.//a", b"//a"),
])  # fmt: skip
def test_slashes_may_stay(path: bytes, normal: bytes) -> None:
    assert normal_path(path, merge=False) == normal


@pytest.mark.parametrize("path, normal", [
    (b"/a%2Fb", b"/a%2Fb"), (b"/a%2fb", b"/a%2Fb"), (b"/a%5cb", b"/a%5Cb"), (b"/%2f", b"/%2F"), (b"/a%2fb/../c", b"/c"),
])  # fmt: skip
def test_encoded_slashes_pass_only_if_the_site_says_so(path: bytes, normal: bytes) -> None:
    assert normal_path(path) is None
    assert normal_path(path, slash=True) == normal


def test_parameters_may_be_refused() -> None:
    assert normal_path(b"/a;b", parameters=False) is None
    assert normal_path(b"/a%3Bb", parameters=False) == b"/a%3Bb"
    assert normal_path(b"/a", parameters=False) == b"/a"


@pytest.mark.parametrize("path", [
    b"", b"a", b"/%", b"/%4", b"/%zz", b"/%00", b"/a\\b", b"/a%2f..%2fadmin", b"/..;/admin", b"//evil/..;/", b"/..%2fa", b"/..%3b/admin",
    b"/a%5c..", b"/a/..;x=y/b", b"/%2e%2e%2fa",
])  # fmt: skip
def test_refuses(path: bytes) -> None:
    assert normal_path(path, slash=True) is None


@given(
    st.lists(st.sampled_from([b"a", b".", b"..", b"%2e", b"%2E%2e", b"%2f", b"", b"b%41", b"c;d", b"%40"])).map(
        lambda parts: b"/" + b"/".join(parts)
    ),
    st.booleans(),
)
def test_normal_form_is_stable_and_free_of_dots(path: bytes, merge: bool) -> None:  # noqa: FBT001
    normal = normal_path(path, merge=merge, slash=True)
    if normal is not None:
        assert normal_path(normal, merge=merge, slash=True) == normal
        assert not {b".", b".."} & set(normal.split(b"/"))
        assert not (merge and b"//" in normal)


AMBIGUOUS = b"%/?#\\+;"
"""Characters whose plain and encoded forms are two things, or that may not stand in a path."""


@given(
    st.text(st.sampled_from([chr(code) for code in range(0x21, 0x7F) if code not in AMBIGUOUS]), min_size=1), st.data()
)
def test_rules_see_one_path_however_its_characters_are_encoded(text: str, data: st.DataObject) -> None:
    plain = "/x" + text
    spelt = "/x" + "".join(
        data.draw(st.sampled_from([char, f"%{ord(char):02X}", f"%{ord(char):02x}"])) for char in text
    )
    seen = [matched_path(normal_path(path.encode()) or b"refused") for path in (plain, spelt)]
    assert seen[0] == seen[1]
    assert seen[0] == matched_text(plain).encode() == matched_text(spelt).encode()


def test_what_means_two_things_stays_two() -> None:
    assert matched_path(b"/a%2Bb%3Bc%25%2F%3F") == b"/a%2Bb%3Bc%25%2F%3F"
    assert matched_text("/.") == "/."  # a prefix of /.git
    assert matched_text("/a%") == "/a%"
    assert matched_text("/a%2fb") == "/a%2Fb"
