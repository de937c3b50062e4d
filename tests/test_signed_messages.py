"""Every kind of signed datagram, all with one key: none stands for another, and damage has the codec's own error."""

import contextlib
import hmac
import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway.control.sites import CONTEXT as SITE
from gateway.health import hint
from gateway.heartbeat import beat
from loadagent import receipt, report

KEY = b"0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000_000_000_000
BEATS, HINTS = beat.Codec(KEY), hint.Codec(KEY)
WITNESS = beat.Codec(KEY, cluster=None)
ERRORS = beat.BadBeat, hint.BadHint, report.BadReport
BEAT = beat.Beat(
    "gw1",
    1,
    2,
    0.4,
    0.1,
    echoes=(beat.Echo("gw2", 3, 4, 0.1),),
    claims=(beat.Claim("10.0.0.1", beat.Stake.OWNING, 9), beat.Claim("2001:db8::1", beat.Stake.IDLE, 0)),
    votes=(beat.Vote("10.0.0.1", "gw2", 1, 2),),
    digest=b"12345678",
)


def read_trial(data: bytes) -> receipt.Trial:
    found = receipt.read_trial(data)
    if found is None or not receipt.is_signed(data, KEY):
        raise report.BadReport(report.Reason.BAD_SIGNATURE)
    return found


def read_receipt(data: bytes) -> receipt.Receipt:
    found = receipt.decode_receipt(data, KEY, 7)
    if found is None:
        raise report.BadReport(report.Reason.BAD_SIGNATURE)
    return found


MESSAGES = {
    "beat": BEATS.encode(BEAT),
    "hint": HINTS.encode(hint.Hint("app", "app1", "10.0.0.1:80"), NOW),
    "report": report.encode(report.Report("app1", NOW, 1, NOW, metrics={"cpu": 0.5}), KEY),
    "site": report.encode(report.Report("b", NOW, 1, NOW, backend="gw", metrics={"load": 0.5}), KEY, SITE),
    "trial": receipt.encode_trial(receipt.Trial(7, NOW, "app1"), KEY),
    "receipt": receipt.encode_receipt(receipt.Receipt(receipt.Opinion.CLOCK, 7, NOW, 1), KEY),
}
READERS: dict[str, Callable[[bytes], Any]] = {
    "beat": BEATS.decode,
    "witness": WITNESS.decode,
    "hint": lambda data: HINTS.decode(data, NOW),
    "report": lambda data: report.decode(data, KEY),
    "site": lambda data: report.decode(data, KEY, SITE),
    "trial": read_trial,
    "receipt": read_receipt,
}
SIGN: dict[str, Callable[[bytes], bytes]] = {
    "beat": lambda body: body + BEATS._sign(body),
    "hint": lambda body: body + hmac.digest(HINTS._key, body, "sha256")[:16],
    "report": lambda body: body + report._tag(body, KEY, report.CONTEXT),
    "site": lambda body: body + report._tag(body, KEY, SITE),
    "trial": lambda body: body + receipt._tag(body, KEY, receipt._CONTEXT_TRIAL),
    "receipt": lambda body: body + receipt._tag(body, KEY, receipt._CONTEXT_RECEIPT),
}
TAG = {"beat": 16, "hint": 16, "report": 32, "site": 32, "trial": 32, "receipt": 32}
MATCH = {("beat", "witness"), *((kind, kind) for kind in MESSAGES)}


@pytest.mark.parametrize("kind, reader", [*itertools.product(MESSAGES, READERS)])
def test_a_message_is_not_accepted_for_another_purpose(kind: str, reader: str) -> None:
    if (kind, reader) in MATCH:
        READERS[reader](MESSAGES[kind])
        return
    with pytest.raises(ERRORS):
        READERS[reader](MESSAGES[kind])


@pytest.mark.parametrize("kind", MESSAGES)
def test_damage_has_the_codecs_own_error(kind: str) -> None:
    """Also where the tag is right: who has the key may have a bug, or have been broken into."""
    chance = random.Random(kind)
    message = MESSAGES[kind]
    for i in range(3000):
        signed = i % 4 != 0
        body = bytearray(message[: -TAG[kind]] if signed else message)
        for _ in range(chance.randrange(1, 5)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        if chance.random() < 0.3:
            body = body[: chance.randrange(1, len(body) + 1)]
        if chance.random() < 0.1:
            body += os.urandom(chance.randrange(9000))
        with contextlib.suppress(*ERRORS):
            READERS[kind](SIGN[kind](bytes(body)) if signed else bytes(body))
        report.claimed_server(bytes(body))
    for length in range(len(message)):
        with pytest.raises(ERRORS):
            READERS[kind](message[:length])
