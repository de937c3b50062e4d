"""What the gateway knows of gRPC: which requests are calls, their deadlines, and its errors in gRPC's terms."""

import pytest

from gateway.wire.grpc import call_of, lines_of

NS = 10**9


def head(*fields: str) -> bytes:
    return "\r\n".join(("POST /a/B HTTP/1.1", "Host: a", *fields, "", "")).encode()


@pytest.mark.parametrize(
    "kind, is_call",
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("Application/gRPC;charset=utf-8", True),
        ("application/grpc-web", False),
        ("application/grpc-web+proto", False),
        ("application/grp", False),
        ("application/grpcx", False),
        ("application/json", False),
    ],
)
def test_which_requests_are_calls(kind: str, *, is_call: bool) -> None:
    assert call_of(head(f"Content-Type: {kind}")) == (is_call, -1)
    assert call_of(head()) == (False, -1)


@pytest.mark.parametrize(
    "text, ns",
    [
        ("1S", NS),
        ("100m", NS // 10),
        ("5u", 5000),
        ("7n", 7),
        ("0n", 0),
        ("2M", 120 * NS),
        ("3H", 10800 * NS),
        ("99999999S", 99999999 * NS),
        ("99999999H", -1),
        ("123456789m", -1),
        ("1", -1),
        ("m", -1),
        ("1x", -1),
        ("1.5S", -1),
        ("-1S", -1),
        ("1 S", -1),
        ("", -1),
    ],
)
def test_timeouts(text: str, ns: int) -> None:
    assert call_of(head("Content-Type: application/grpc", f"grpc-timeout: {text}")) == (True, ns)


@pytest.mark.parametrize(
    "status, overdue, code",
    [
        (400, False, 13),
        (401, False, 16),
        (403, False, 7),
        (404, False, 12),
        (408, False, 14),
        (413, False, 8),
        (429, False, 8),
        (500, False, 2),
        (502, False, 14),
        (503, False, 14),
        (504, False, 14),
        (504, True, 4),
    ],
)
def test_statuses(status: int, code: int, *, overdue: bool) -> None:
    lines = lines_of(status, overdue).split(b"\r\n")
    assert b"Content-Type: application/grpc" in lines
    assert b"Grpc-Status: %d" % code in lines
    assert any(line.startswith(b"Grpc-Message: %d " % status) for line in lines)
