"""Requests as rules see them, made of a few words."""

from collections.abc import Iterable

from gateway.rules.view import View


def view(
    method: str = "GET", url: str = "http://www.example.com/", headers: Iterable[str] = (), client: str = "127.0.0.1"
) -> View:
    """Look at a request for `url` with header lines."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    head = "\r\n".join((f"{method} {slash}{path} HTTP/1.1", f"Host: {host}", *headers)) + "\r\n\r\n"
    made = View()
    refused = made.read(head.encode("latin-1"), https=scheme == "https", client=client)
    assert refused is None, refused
    return made
