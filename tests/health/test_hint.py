import hmac

import pytest

from gateway.health.hint import FRESH, REMEMBERED, BadHint, Codec, Hint, Recent

KEY = b"0123456789abcdef"
NOW = 1_700_000_000_000_000_000
HINT = Hint("app", "app1", "10.0.0.1:80")


def test_what_is_written_is_read() -> None:
    message = Codec(KEY).encode(HINT, NOW)
    for now in (NOW, NOW + int((FRESH - 1) * 1e9), NOW - int((FRESH - 1) * 1e9)):
        assert Codec(KEY).decode(message, now) == HINT


def test_nothing_else_is() -> None:
    message = Codec(KEY).encode(HINT, NOW)
    for place in range(len(message)):
        with pytest.raises(BadHint):
            Codec(KEY).decode(message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :], NOW)
        with pytest.raises(BadHint):
            Codec(KEY).decode(message[:place], NOW)
    with pytest.raises(BadHint, match="bad signature"):
        Codec(b"another key, the same length").decode(message, NOW)
    for moved in (FRESH + 1, -FRESH - 1):
        with pytest.raises(BadHint, match="not fresh"):
            Codec(KEY).decode(message, NOW + int(moved * 1e9))


@pytest.mark.parametrize("body", [b"", b"GWCH", b"XXXX\1" + bytes(8), b"GWCH\2" + bytes(8), b"GWCH\1" + bytes(8)])
def test_signed_nonsense(body: bytes) -> None:
    key = hmac.digest(KEY, b"gateway check hint 1", "sha256")
    for rest in (b"", b"\1a\1b", b"\1a\1b\1c\1d", b"\1a\1b\xffc"):
        tag = hmac.digest(key, body + rest, "sha256")[:16]
        with pytest.raises(BadHint):
            Codec(KEY).decode(body + rest + tag, 0)


def test_a_copy_is_refused_in_bounded_memory() -> None:
    recent = Recent()
    first, *others = (Codec(KEY).encode(HINT, NOW + i) for i in range(REMEMBERED + 1))
    recent.take(first, 0.0)
    for message in others[:-1]:
        recent.take(message, 1.0)
    for message in (first, others[0], others[-2]):
        with pytest.raises(BadHint, match="replayed"):
            recent.take(message, 2 * FRESH)
    recent.take(others[-1], 1.0)
    recent.take(others[-1], 2 * FRESH + 2)  # the time in it gives it away by now
    assert len(recent._seen) == 1
