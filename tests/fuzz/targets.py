"""What is fuzzed, and what must hold for any bytes at all."""

from collections.abc import Hashable
from urllib.parse import unquote_to_bytes

import dns.message

from gateway.dns.query import read as read_dns
from gateway.wire.chunked import Decoder, encode
from gateway.wire.head import parse_request, parse_response
from gateway.wire.target import normal_path
from tests.dns.signed_zones import signed_responder
from tests.dns.zones import responder
from tests.fuzz.engine import Target
from tests.support.others import Message, disagreements, ours


def _head(data: bytes, *, response: bool) -> Hashable:
    parse = parse_response if response else parse_request
    try:
        status, found = parse(data)
    except ValueError:
        return "incomplete"
    # Nothing after the head changes how it is read, and nothing shorter is a head.
    if status:
        return str(found)  # the sentence
    length = found["length"]
    assert data[:length].endswith(b"\r\n\r\n")
    assert parse(data[:length] + b"\r\n \n:") == (status, found)
    head = data[:length]
    for name, value, _ in found["headers"]:
        assert name + b":" in head
        assert value in head
        assert not {0, 10, 13, 127} & set(name + value)
    assert not (found["chunked"] and found["content_length"] is not None)
    assert disagreements(data, response=response) == []
    reading = ours(data, response=response)
    whole = isinstance(reading, Message) and reading.complete
    return (
        found["version"],
        found["chunked"],
        found["content_length"] is None,
        found["keep_alive"],
        len(found["headers"]),
        whole,
    )


def request_head(data: bytes) -> Hashable:
    """Read a request: refused, or read by llhttp and h11 the same way."""
    return _head(data, response=False)


def response_head(data: bytes) -> Hashable:
    """Read a response: as request_head."""
    return _head(data, response=True)


def chunked(data: bytes) -> Hashable:
    """Decode a body: the same wherever it is cut, and what is written anew reads the same."""
    whole = Decoder()
    body = whole.feed(data)
    for step in (1, 7):
        cut, pieces = Decoder(), []
        for at in range(0, len(data), step):
            pieces.append(cut.feed(data[at : at + step]))
            if cut.state != "more":
                break
        assert cut.state == whole.state
        if whole.state == "end":
            assert b"".join(pieces) == body
    again = Decoder()
    assert again.feed((encode(body) if body else b"") + encode(b"")) == body
    assert (again.state, again.rest) == ("end", b"")
    return whole.state, min(len(body), 20), whole.state == "end" and len(whole.rest) > 0


def target(data: bytes) -> Hashable:
    """Bring a path into its normal form: which is its own, and leaves nothing to resolve or to hide."""
    path = b"/" + bytes(byte for byte in data if 33 <= byte <= 126 and byte not in b"?#")
    normal = normal_path(path)
    if normal is None:
        return "refused"
    assert normal.startswith(b"/")
    assert normal_path(normal) == normal
    assert not {b".", b".."} & set(normal.split(b"/"))
    assert not set(normal) & set(b'"<>\\^`{|} \r\n\0')
    decoded = unquote_to_bytes(normal)
    assert b"\0" not in decoded
    # No dot segment appears when a server behind us decodes slashes or cuts parameters off.
    for separators in ((), (b"%2F",), (b"%2F", b"%5C")):
        reading = normal
        for separator in separators:
            reading = reading.replace(separator, b"/")
        segments = [segment.partition(b";")[0] for segment in reading.split(b"/")]
        assert not {b".", b".."} & set(segments), normal
    return len(normal) - len(path), normal.count(b"%"), normal.count(b"/")


def dns_query(data: bytes) -> Hashable:
    """Answer a DNS message: dnspython reads the response, and a query that is answered, the same way."""
    code, found = read_dns(data)
    outcome: list[Hashable] = [code]
    for tcp, of in ((False, DNS), (True, DNS), (False, SIGNED), (True, SIGNED)):
        response = of.respond(data, b"\xc0\x00\x02\x01", tcp=tcp)
        assert (response is None) == (code is None)
        if response is not None:
            assert response[:2] == data[:2]
            assert len(response) <= (65535 if tcp else 1232)
            assert read_dns(response)[0] is None, "a response is not answered"
            rcode = dns.message.from_wire(response).rcode()
            if of is DNS:  # signatures are limited by rate
                outcome.append(rcode)
    if code == 0 and found["name"]:
        (question,) = dns.message.from_wire(data).question
        assert (question.name.to_wire(), question.rdtype) == (found["name"], found["type"])
        outcome += [found["edns"], len(found["cookie"]), found["subnet"] is None, len(found["name"])]
    return tuple(outcome)


DNS = responder()
SIGNED = signed_responder()
TARGETS: dict[str, Target] = {
    "request": request_head,
    "response": response_head,
    "chunked": chunked,
    "target": target,
    "dns": dns_query,
}
WORDS: dict[str, list[bytes]] = {
    "request": [
        b"\r\n", b"\r", b"\n", b"\r\n\r\n", b": ", b":", b" ", b"\t", b"\0", b"\x7f", b"\xff", b"Host: a\r\n", b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Connection: close, upgrade\r\n", b"Upgrade: x\r\n", b"Expect: 100-continue\r\n",
        b"HTTP/1.1", b"HTTP/1.0", b"GET ", b"POST ", b"http://a/", b"*", b"chunked", b",", b"_", b"0\r\n\r\n", b"5\r\nhello\r\n", b"[::1]:8",
    ],
    "response": [
        b"\r\n", b"\r", b"\n", b"\r\n\r\n", b": ", b" ", b"\t", b"\0", b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"204", b"304", b"100", b"101",
        b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"chunked", b",",
    ],
    "chunked": [
        b"\r\n", b"\r", b"\n", b"0\r\n\r\n", b"0\r\n", b"5\r\nhello\r\n", b"a", b"F", b"0", b";", b";a=b", b" ", b"\t", b"\0", b"X: y\r\n",
        b"ffffffffffffffff", b"10000000000000005", b"-1", b"+1", b"0x1",
    ],
    "target": [
        b"/", b"//", b".", b"..", b"/../", b"/./", b"%2e", b"%2E%2e", b"%2f", b"%5c", b"%00", b"%25", b"%252e", b";", b";x=y", b"..;", b"%",
        b"%zz", b"\\", b"{", b"~", b"%7E", b"%c0%ae", b"%3b", b"%3B/", b"..%3b",
    ],
    "dns": [
        b"\0", b"\0\0", b"\xc0\x0c", b"\3www\7example\3com\0", b"\4shop\7example\3org\0", b"\0\1\0\1", b"\0\x1c\0\1", b"\0\xff\0\1",
        b"\0\0\x29\x04\xd0\0\0\0\0\0\0", b"\0\x0a\0\x08abcdefgh", b"\0\x08\0\x07\0\1\x18\0\xc6\x33\x64", b"\0\3\0\0",
        b"\x3f" + b"a" * 63, b"\x80\0", b"\0\1\0\0\0\0\0\1",
    ],
}  # fmt: skip
