"""Keys of TLS towards clients that exclude or need others."""

import pytest

from gateway.config.model import Hsts, Limits
from tests.config.conftest import BASE, Refuse


@pytest.mark.parametrize("written, value", [
    ("365d", "max-age=31536000"),
    ("0s", "max-age=0"),
    ({"max_age": "1h", "include_subdomains": True}, "max-age=3600; includeSubDomains"),
    (
        {"max_age": "730d", "include_subdomains": True, "preload": True},
        "max-age=63072000; includeSubDomains; preload",
    ),
])  # fmt: skip
def test_hsts(written: object, value: str) -> None:
    assert Hsts.model_validate(written).value == value


@pytest.mark.parametrize(
    "written", ["{max_age: 365d, »preload: true}", "{max_age: 1d, include_subdomains: true, »preload: true}"]
)
def test_the_list_of_browsers_has_conditions(refuse: Refuse, written: str) -> None:
    marked = written.replace("»preload: true", "preload: »true")
    text = f"frontends: [{{listen: '127.0.0.1:1', tls: {{certificates: [], hsts: {marked}}}}}]\n"
    text += "backends: {app: {servers: ['127.0.0.1:2']}}\n"
    refuse(text.replace("certificates: []", "certificates: »[]"), "expected at least one", "the list takes only hosts")


def test_a_route_can_require_a_certificate_only_if_clients_are_asked_for_one(refuse: Refuse) -> None:
    refuse(f"{BASE}routes: [{{»require_client_cert: true}}, {{backend: app}}]\n", "no frontend asks clients for a")


def test_handshakes_have_no_limit_unless_one_is_given() -> None:
    assert Limits().handshakes_per_source is None
    assert Limits.model_validate({"handshakes_per_source": "30/m"}).handshakes_per_source == 0.5
