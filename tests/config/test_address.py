import re
from ipaddress import ip_network

import pytest

from gateway.config.address import Address, Listen, entrance, listen, name_server, network, server_address


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0.0.0.0:8080", Listen("0.0.0.0", 8080)),
        ("[::]:443", Listen("::", 443)),
        ("[2001:DB8:0::1]:1", Listen("2001:db8::1", 1)),
    ],
)
def test_listen(text: str, expected: Listen) -> None:
    assert listen(text) == expected
    assert listen(str(expected)) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected address:port"),
        ("8080", "8080 needs a port"),
        (":80", "expected address:port such as 0.0.0.0:8080"),
        ("0.0.0.0:", "expected address:port"),
        ("0.0.0.0:0", "a port is between 1 and 65535"),
        ("0.0.0.0:65536", "a port is between 1 and 65535"),
        ("::1:80", "put an IPv6 address in brackets: [::1]:80?"),
        ("[127.0.0.1]:80", "[127.0.0.1] is not an IP address"),
        ("[fe80::1%eth0]:80", "fe80::1%eth0 is not an IP address"),
        ("localhost:80", "localhost is not an IP address: expected address:port such as 0.0.0.0:8080"),
        ("http://0.0.0.0:80", "remove the scheme"),
        ("unix:/run/a.sock", "expected address:port"),
    ],
)
def test_not_a_listen(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        listen(text)


@pytest.mark.parametrize(
    "text, expected, authority",
    [
        ("[::]:443", Listen("::", 443), "[::]:443"),
        ("unix:/run/a b.sock", Listen("", 0, "/run/a b.sock"), "localhost"),
        ("unix:/" + "x" * 106, Listen("", 0, "/" + "x" * 106), "localhost"),
    ],
)
def test_entrance(text: str, expected: Listen, authority: str) -> None:
    assert entrance(text) == expected
    assert entrance(str(expected)) == expected
    assert expected.authority == authority


@pytest.mark.parametrize(
    "text, message",
    [
        ("unix:", "expected unix: and an absolute path of at most 107 bytes"),
        ("unix:run/a.sock", "expected unix: and an absolute path"),
        ("unix:/" + "x" * 107, "expected unix: and an absolute path"),
        ("unix:/a\n", "expected unix: and an absolute path"),
        ("/run/a.sock", "did you mean unix:/run/a.sock?"),
        ("localhost:80", "localhost is not an IP address"),
    ],
)
def test_not_an_entrance(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        entrance(text)


@pytest.mark.parametrize(
    "text, expected, token",
    [
        ("10.0.0.1:80", Address("tcp", "10.0.0.1", 80), "10.0.0.1:80"),
        ("[::1]:80", Address("tcp", "::1", 80), "::1:80"),
        ("App.Internal:80", Address("tcp", "app.internal", 80), "app.internal:80"),
        ("dns:App.Internal:80", Address("dns", "app.internal", 80), "app.internal"),
        ("dns:app.internal.:80", Address("dns", "app.internal.", 80), "app.internal"),
        ("dns:_http._tcp.app", Address("dns", "_http._tcp.app"), "_http._tcp.app"),
        ("dns:_http._tcp.app:80", Address("dns", "_http._tcp.app", 80), "_http._tcp.app"),
        ("unix:/run/a b.sock", Address("unix", path="/run/a b.sock"), "unix:run-a-b.sock"),
    ],
)
def test_server_address(text: str, expected: Address, token: str) -> None:
    address = server_address(text)
    assert address == expected
    assert address.token == token
    assert server_address(str(address)) == address


def test_a_server_s_address_with_https() -> None:
    found = server_address("https://App.internal:8443")
    assert (str(found), found.tls, found.token) == ("app.internal:8443", True, "app.internal:8443")
    assert server_address("https://[2001:db8::1]") == Address("tcp", "2001:db8::1", 443, tls=True)
    assert not server_address("app.internal:8443").tls


def test_only_names_need_a_name_service() -> None:
    assert server_address("10.0.0.1:80").is_literal
    assert server_address("unix:/x").is_literal
    assert not server_address("localhost:80").is_literal


@pytest.mark.parametrize(
    "text, message",
    [
        ("10.0.0.1", "10.0.0.1 needs a port"),
        ("10.0.0.256:80", "10.0.0.256 is neither an IP address nor a host name"),
        ("a b:80", "an address has no blanks"),
        ("-a:80", "neither"),
        ("unix:run/x", "expected unix: and an absolute path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("dns:app", "app needs a port: expected dns:name:port"),
        ("dns:10.0.0.1:80", "10.0.0.1 is an address: remove dns:"),
        ("dns:[::1]:80", "::1 is an address: remove dns:"),
        ("dns:10.0.0:80", "10.0.0 is not a host name"),
        ("dns:a b:80", "an address has no blanks"),
        ("dns:_http._tcp.a b", "_http._tcp.a b is not a host name"),
        ("dns:app:0", "a port is between 1 and 65535"),
        ("http://app:80", "remove the scheme"),
        ("https://app:80/path", "a server has no path: leave /path out"),
        ("https://dns:app:80", "leave https:// out before dns: and say tls: true"),
        ("https://unix:/run/a", "TLS is not spoken on a Unix socket"),
        ("https://", "expected address:port"),
    ],
)
def test_not_a_server_address(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        server_address(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("10.0.0.2", Listen("10.0.0.2", 53)),
        ("10.0.0.2:5353", Listen("10.0.0.2", 5353)),
        ("2001:DB8::53", Listen("2001:db8::53", 53)),
        ("[::1]:5353", Listen("::1", 5353)),
    ],
)
def test_name_server(text: str, expected: Listen) -> None:
    assert name_server(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("ns.example.com:53", "ns.example.com is not an IP address"),
        ("", " is not an IP address"),
        (":53", "such as 10.0.0.2 or 127.0.0.1:5353"),
    ],
)
def test_not_a_name_server(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        name_server(text)


def test_network() -> None:
    assert network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert network("192.0.2.1") == ip_network("192.0.2.1/32")
    assert network("2001:db8::/32") == ip_network("2001:db8::/32")


@pytest.mark.parametrize(
    "text, message",
    [
        ("10.0.0.1/8", "bits set after its prefix (did you mean 10.0.0.0/8?)"),
        ("2001:db8::1/32", "did you mean 2001:db8::/32?"),
        ("10.0.0.0/33", "is not an address range"),
        ("ten", "is not an address range such as 10.0.0.0/8"),
    ],
)
def test_not_a_network(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        network(text)
