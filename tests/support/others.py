"""Parses the same bytes with three parsers: the gateway's own, llhttp (httptools) and h11."""

import re
from dataclasses import dataclass, field

import h11
import httptools

from gateway.wire.chunked import Decoder
from gateway.wire.head import parse_request, parse_response

KNOWN = {
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND", b"REPORT", b"LOCK", b"MKCOL",
}  # fmt: skip
"""Methods that llhttp has heard of; it refuses all others."""

EXTENDED = re.compile(rb"\r\n[0-9A-Fa-f]+([ \t]*;|[ \t]+\Z)")
"""A chunk extension: others refuse white space around it (which RFC 9112 section 7.1.1 allows) and bytes within it."""
TRAILED = re.compile(rb"\r\n0+(;[^\r\n]*)?\r\n[^\r\n]")
"""A trailer: others refuse some that the gateway drops, such as Content-Length."""
TABBED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*\t", re.IGNORECASE)
"""White space beside the coding, which RFC 9110 section 5.5 takes off: llhttp does not take a TAB off."""

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Message:
    """A message: `start` is (method, target) or (status,); `complete` if its end was there; `rest` came after it."""

    start: tuple[bytes, ...]
    fields: Fields
    body: bytes = b""
    complete: bool = False
    rest: bytes = field(default=b"", compare=False)


def plain(fields: Fields) -> Fields:
    """Return fields in one spelling: lower-case names, no white space around values, lengths as numbers."""
    made = []
    for name, value in fields:
        name, value = name.lower(), value.strip(b" \t")  # noqa: PLW2901
        if name == b"content-length" and value.isdigit():
            value = b"%d" % int(value)  # noqa: PLW2901
        elif name == b"transfer-encoding":
            value = value.lower()  # noqa: PLW2901
        made.append((name, value))
    return made


def ours(data: bytes, *, response: bool = False) -> Message | int | None:
    """Return the gateway's reading; the status if it refuses; None while the head is incomplete."""
    try:
        status, found = (parse_response if response else parse_request)(data)
    except ValueError:
        return None
    if status:
        return int(status)
    rest = data[found["length"] :]
    start = (b"%d" % found["status"],) if response else (found["method"], found["target"])
    message = Message(start, plain([(name, value) for name, value, _ in found["headers"]]))
    if response and (found["status"] < 200 or found["status"] in {204, 304}):
        message.complete, message.rest = True, rest
    elif found["chunked"]:
        decoder = Decoder()
        message.body = decoder.feed(rest)
        if decoder.state == "bad":
            return 502 if response else 400
        message.complete, message.rest = decoder.state == "end", decoder.rest
    elif found["content_length"] is None and response:
        message.body = rest  # until the connection ends
    else:
        length = found["content_length"] or 0
        message.body, message.rest = rest[:length], rest[length:]
        message.complete = len(message.body) == length
    return message


class _Listener:
    """What llhttp reports."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: Fields = []
        self.body = b""
        self.began = self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.began:  # what comes later is a trailer
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.began = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def llhttp(data: bytes, *, response: bool = False) -> Message:
    """Return llhttp's reading of one message. Raises httptools.HttpParserError."""
    seen = _Listener()
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser
    parser = httptools.HttpResponseParser(seen) if response else httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        seen.complete = True
    if not seen.began:
        raise httptools.HttpParserError("the head is incomplete")
    if isinstance(parser, httptools.HttpResponseParser):
        start: tuple[bytes, ...] = (b"%d" % parser.get_status_code(),)
    else:
        start = (parser.get_method(), origin_form(seen.url))
    return Message(start, plain(seen.fields), seen.body, seen.complete)


def h11s(data: bytes, *, response: bool = False) -> Message:
    """Return h11's reading of one message. Raises h11.RemoteProtocolError."""
    connection = h11.Connection(h11.CLIENT if response else h11.SERVER, max_incomplete_event_size=1 << 22)
    if response:
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    event = connection.next_event()
    if isinstance(event, h11.Request):
        start: tuple[bytes, ...] = (event.method, origin_form(event.target))
    elif isinstance(event, (h11.Response, h11.InformationalResponse)):
        start = (b"%d" % event.status_code,)
    else:
        raise h11.RemoteProtocolError("the head is incomplete")
    message = Message(start, plain(event.headers.raw_items()))
    if isinstance(event, h11.InformationalResponse):
        message.complete = True
        return message
    while isinstance(event := connection.next_event(), h11.Data):
        message.body += bytes(event.data)
    message.complete = isinstance(event, h11.EndOfMessage)
    return message


def origin_form(url: bytes) -> bytes:
    """Return the target as it goes to a server: without scheme and authority."""
    return re.sub(rb"^https?://[^/?]*", b"", url, flags=re.IGNORECASE)


def disagreements(data: bytes, *, response: bool = False) -> list[str]:
    """Return how others read a message that the gateway accepts: nothing if they read the same, or it does not."""
    mine = ours(data, response=response)
    if not isinstance(mine, Message) or (response and mine.start[0] < b"200"):
        return []  # what an interim answer means depends on what was asked
    data = data[: len(data) - len(mine.rest)]
    found = []
    forgiven = any(pattern.search(data) for pattern in (EXTENDED, TRAILED))
    names = {name for name, _ in mine.fields}
    # llhttp ends a request with Upgrade at its head; what follows is read by others.
    known = not TABBED.search(data) and (response or (mine.start[0] in KNOWN and b"upgrade" not in names))
    if known:
        try:
            theirs = llhttp(data, response=response)
            if theirs != mine:
                found.append(f"llhttp: {theirs}\nours: {mine}")
        except httptools.HttpParserError as error:
            if not forgiven:
                found.append(f"llhttp refuses: {error!r}")
    try:
        theirs = h11s(data, response=response)
        if theirs != mine:
            found.append(f"h11: {theirs}\nours: {mine}")
    except h11.RemoteProtocolError as error:
        if not forgiven:
            found.append(f"h11 refuses: {error!r}")
    return found
