import hashlib
import hmac
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadagent.report import (
    MAX_BYTES,
    MAX_METRIC_NAME,
    MAX_METRICS,
    MAX_SHARE,
    BadReport,
    Reason,
    Report,
    State,
    decode,
    encode,
    parse_key,
)

KEY = b"0123456789abcdef"
REPORT = Report(
    server="app1",
    backend="app",
    incarnation=1_700_000_000_000_000_000,
    sequence=7,
    time=1_700_000_001_000_000_000,
    state=State.DRAIN,
    metrics={"cpu": 0.25, "run_queue": 1.5},
)

names = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
metric_names = st.from_regex(r"[A-Za-z0-9._:-]{1,32}", fullmatch=True)
numbers = st.integers(0, 2**64 - 1)
reports = st.builds(
    Report,
    server=names,
    backend=st.none() | names,
    incarnation=numbers,
    sequence=numbers,
    time=numbers,
    state=st.sampled_from(State),
    metrics=st.dictionaries(metric_names, st.floats(0.0, MAX_SHARE), max_size=MAX_METRICS),
)


def signed(body: bytes) -> bytes:
    """Sign anything as an agent would that has the key and a bug."""
    return body + hmac.digest(KEY, b"eddie load report\0" + body, hashlib.sha256)


def refusal(data: bytes, key: bytes = KEY) -> Reason:
    with pytest.raises(BadReport) as caught:
        decode(data, key)
    return caught.value.reason


@given(reports)
def test_what_is_encoded_is_decoded_and_fits_a_datagram(report: Report) -> None:
    data = encode(report, KEY)
    assert len(data) <= MAX_BYTES
    assert decode(data, KEY) == report


def test_the_largest_report_fits() -> None:
    metrics = {f"{index:x}".rjust(MAX_METRIC_NAME, "m"): 1.0 for index in range(MAX_METRICS)}
    report = Report("s" * 64, 2**64 - 1, 2**64 - 1, 2**64 - 1, State.MAINTENANCE, "b" * 64, metrics)
    data = encode(report, KEY)
    assert len(data) <= MAX_BYTES
    assert decode(data, KEY) == report


def test_a_change_of_any_byte_is_a_bad_signature() -> None:
    data = encode(REPORT, KEY)
    for index in range(len(data)):
        broken = bytearray(data)
        broken[index] ^= 0x01
        assert refusal(bytes(broken)) is Reason.BAD_SIGNATURE


def test_a_report_cut_anywhere_is_refused() -> None:
    data = encode(REPORT, KEY)
    for length in range(len(data)):
        expected = Reason.TOO_SHORT if length <= 32 else Reason.BAD_SIGNATURE
        assert refusal(data[:length]) is expected


def test_a_signed_body_cut_anywhere_is_a_bad_field() -> None:
    body = encode(REPORT, KEY)[:-32]
    for length in range(1, len(body)):
        assert refusal(signed(body[:length])) is Reason.BAD_FIELD


def test_another_key_is_a_bad_signature() -> None:
    assert refusal(encode(REPORT, KEY), b"another key of 16") is Reason.BAD_SIGNATURE


def test_a_tag_without_the_context_is_a_bad_signature() -> None:
    body = encode(REPORT, KEY)[:-32]
    assert refusal(body + hmac.digest(KEY, body, hashlib.sha256)) is Reason.BAD_SIGNATURE


def test_too_long_is_refused_before_its_signature_is_computed() -> None:
    assert refusal(signed(b"\x01" * MAX_BYTES)) is Reason.TOO_LONG


def test_another_version_is_told_apart_only_when_signed() -> None:
    body = b"\x02" + encode(REPORT, KEY)[1:-32]
    assert refusal(signed(body)) is Reason.BAD_VERSION
    assert refusal(body + bytes(32)) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf, -0.1, MAX_SHARE * 1.01])
def test_a_share_that_is_no_load_is_a_bad_field(share: float) -> None:
    body = encode(Report("a", 1, 1, 1, metrics={"m": 0.5}), KEY)[:-32]
    assert refusal(signed(body[:-8] + struct.pack("!d", share))) is Reason.BAD_FIELD
    with pytest.raises(ValueError, match="m is"):
        Report("a", 1, 1, 1, metrics={"m": share})


HEAD = struct.pack("!BBQQQ", 1, 0, 1, 1, 1)


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("!BBQQQ", 1, 3, 1, 1, 1) + b"\x01a\x00\x00",  # no such state
        HEAD + b"\x00\x00\x00",  # no name
        HEAD + b"\x01\n\x00\x00",  # a name that would break a log line
        HEAD + b"\x01\xff\x00\x00",  # not ASCII
        HEAD + b"\x41" + b"a" * 65 + b"\x00\x00",  # name too long
        HEAD + b"\x01a\x00\x00rest",  # bytes left over
        HEAD + b"\x01a\x00\x02" + (b"\x01m" + bytes(8)) * 2,  # a metric twice
        HEAD + b"\x01a\x00\x11" + b"".join(b"\x01" + bytes([97 + i]) + bytes(8) for i in range(17)),  # too many
    ],
)
def test_a_signed_report_with_a_bad_field_is_refused(body: bytes) -> None:
    assert refusal(signed(body)) is Reason.BAD_FIELD


@given(st.binary(max_size=1300))
def test_noise_is_refused_and_never_an_error(data: bytes) -> None:
    refusal(data)
    if len(data) <= MAX_BYTES - 32 and data:
        assert refusal(signed(data)) in {Reason.BAD_VERSION, Reason.BAD_FIELD}


@pytest.mark.parametrize("number", [-1, 2**64])
def test_numbers_must_fit_64_bits(number: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Report("a", number, 1, 1)


def test_the_score_is_the_largest_share_and_unknown_without_any() -> None:
    assert REPORT.score == 1.5
    assert Report("a", 1, 1, 1).score is None


def test_a_key_is_what_the_file_holds_without_its_line_end() -> None:
    assert parse_key(KEY + b"\r\n") == KEY
    assert parse_key(b" " + KEY) == b" " + KEY
    with pytest.raises(ValueError, match="at least 16 bytes"):
        parse_key(b"0123456789abcde\n")
