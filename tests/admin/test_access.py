"""Who may do what over HTTP."""

from pathlib import Path

import pytest

from gateway.admin.access import Access, Caller, from_elsewhere, is_local
from gateway.config.admin import AccessRole, Admin

FILES = {Path("/a"): b"token of alice\n", Path("/p"): b"token of prometheus"}


def access(files=FILES, **keys):
    return Access.of(
        Admin.model_validate({"sockets": "/s", "listen": "127.0.0.1:1", **keys}, context={"directory": Path("/")}),
        files,
    )


def test_each_token_has_its_name_and_role():
    found = access(token_file="/p", operators=[{"name": "alice", "token_file": "/a", "role": "operate"}])
    assert found.caller("Bearer token of alice") == Caller("alice", "operate")
    assert found.caller("bearer  token of prometheus ") == Caller("token", "read")
    assert found.caller("Bearer token of bob") is None
    assert found.caller("Basic token of alice") is None
    assert found.caller(None) == Caller("anyone", None)


def test_without_a_token_one_may_read_unless_the_site_file_says_more():
    assert access().caller(None) == Caller("anyone", "read")
    assert access(without_token="operate").caller(None) == Caller("anyone", "operate")
    assert access(token_file="/p", without_token="read").caller(None) == Caller("anyone", "read")


def test_a_role_includes_those_before_it():
    roles: tuple[AccessRole | None, ...] = (None, "read", "operate")
    assert [Caller("a", "operate").may(role) for role in roles] == [True, True, True]
    assert [Caller("a", "read").may(role) for role in roles] == [True, True, False]
    assert [Caller("a", None).may(role) for role in roles] == [True, False, False]


def test_a_caller_whose_token_was_changed_is_not_known():
    operators = [{"name": "alice", "token_file": "/a"}]
    before = access(token_file="/p", operators=operators)
    alice = before.caller("Bearer token of alice")
    assert before.knows(alice, "token of alice")
    assert not access(token_file="/p").knows(alice, "token of alice")
    rotated = access({Path("/a"): b"another of alice", Path("/p"): FILES[Path("/p")]}, operators=operators)
    assert rotated.caller("Bearer another of alice") == alice
    assert not rotated.knows(alice, "token of alice")
    assert not before.knows(Caller("anyone", "read"), "")
    assert access().knows(Caller("anyone", "read"), "")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8900", "127.0.0.1", "127.9.9.9:1", "127.0.0.1:", "[::1]", "[::1]:8900"]
)
def test_names_of_this_machine(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["", "[::1", "::1", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"])
def test_names_of_other_machines(host):
    assert not is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost:1:2", "a@localhost", "localhost,evil.example", "localhost/"])
def test_names_that_only_resemble_them(host):
    assert not is_local(host)


def test_origins():
    assert not from_elsewhere({"Host": "a:1"})
    assert not from_elsewhere({"Host": "a:1", "Origin": "http://a:1", "Sec-Fetch-Site": "same-origin"})
    assert from_elsewhere({"Host": "a:1", "Origin": "http://a"})
    assert from_elsewhere({"Host": "a:1", "Origin": "null"})
    assert from_elsewhere({"Host": "a:1", "Sec-Fetch-Site": "cross-site"})
