"""Passwords and their hashes, and what is remembered of checks."""

import hashlib
import subprocess
from base64 import b64encode

import pytest

from gateway.rules.actions import Respond
from gateway.rules.basic_auth import KNOWN, Login, Logins, RequireLogin, credentials
from gateway.rules.passwords import fits
from gateway.rules.routes import Route, RouteTable
from tests.rules.views import view

SHA = "{SHA}" + b64encode(hashlib.sha1(b"secret").digest()).decode()


@pytest.mark.parametrize("kind", ["-apr1", "-1", "-5", "-6"])
@pytest.mark.parametrize("password", ["a", "secret", "x" * 17, "größe" * 9])
def test_hashes_of_openssl_fit_their_password_alone(kind: str, password: str) -> None:
    command = ["openssl", "passwd", kind, "-salt", "saltsalt", password]
    hashed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert fits(password.encode(), hashed)
    assert not fits(password.encode() + b"x", hashed)
    assert not fits(password.encode() + b"\0", hashed)
    assert not fits(password.encode() * 1000, hashed)


def test_a_salted_sha_hash_fits_its_password() -> None:
    hashed = "{SSHA}" + b64encode(hashlib.sha1(b"secret" + b"salt").digest() + b"salt").decode()
    assert fits(b"secret", hashed)
    assert not fits(b"Secret", hashed)


def test_credentials_are_of_one_basic_field() -> None:
    assert credentials([b"basic " + b64encode(b"anna:a:b")]) == (b"anna", b"a:b")
    for values in ([], [b"Basic"], [b"Basic YQ=="], [b"Digest x"], [b"Basic YTpi", b"Basic YTpi"]):
        assert credentials(values) is None


def test_a_result_is_kept_until_there_are_too_many() -> None:
    logins = Logins({b"anna": SHA})
    routes = RouteTable([Route(0, None, [], [], "app", (), [RequireLogin(logins, "staff")])])
    asked = view(headers=["Authorization: Basic " + b64encode(b"anna:secret").decode()])
    login = routes.find(asked)
    assert isinstance(login, Login)
    login.settle(good=login.check())
    assert routes.find(asked) == "app"
    assert asked.user == b"anna"
    for i in range(KNOWN):
        logins.keep(b"%d" % i, good=False, now=0.0)
    assert isinstance(routes.find(asked), Login)
    other = view(headers=["Authorization: Basic " + b64encode(b"anna:wrong").decode()])
    login = routes.find(other)
    assert isinstance(login, Login)
    login.settle(good=login.check())
    refused = routes.find(other)
    assert isinstance(refused, Respond)
    assert (refused.status, other.user) == (401, None)


def test_a_password_that_no_hash_fits_is_refused_without_a_check() -> None:
    routes = RouteTable([Route(0, None, [], [], "app", (), [RequireLogin(Logins({b"anna": SHA}), "staff")])])
    refused = routes.find(view(headers=["Authorization: Basic " + b64encode(b"anna:" + b"x" * 513).decode()]))
    assert isinstance(refused, Respond)
    assert refused.status == 401
