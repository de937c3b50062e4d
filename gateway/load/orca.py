"""Load that servers report with their answers: ORCA's `endpoint-load-metrics` response headers. Pure.

The fields are those of xds.data.orca.v3.OrcaLoadReport; which of them is the load follows gRPC's proposal A58:
`application_utilization`, and `cpu_utilization` where there is none. The header has the report as `JSON {…}`,
`TEXT name=value, …` or `BIN` with base64 of the protobuf message; `endpoint-load-metrics-bin` has the last alone.
"""

import json
import math
from base64 import b64decode
from collections.abc import Iterator
from struct import unpack_from
from typing import Any, Final

from loadagent.report import MAX_SHARE

MAX_BYTES: Final = 4096
_MEANT: Final = ("application_utilization", "applicationUtilization", "cpu_utilization", "cpuUtilization")
_FIELDS: Final = {1: "cpu_utilization", 9: "application_utilization"}  # by number, as protobuf has them
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types


def load(value: bytes) -> float | None:
    """Return the load in a field's value, 1.0 when full; None if it says none that makes sense."""
    if len(value) > MAX_BYTES:
        return None
    kind, _, rest = value.strip().partition(b" ")
    try:
        if kind == b"JSON":
            found = json.loads(rest)
            return _meant(found) if isinstance(found, dict) else None
        if kind == b"TEXT":
            pairs = (item.partition("=") for item in rest.decode("ascii").split(","))
            return _meant({name.strip(): float(number) for name, _, number in pairs if name.strip() in _MEANT})
        return _meant(dict(_fields(b64decode((rest if kind == b"BIN" else kind) + b"=="))))
    except (ValueError, IndexError, RecursionError):
        return None


def _meant(report: dict[str, Any]) -> float | None:
    found = [report[name] for name in _MEANT if name in report]
    if not all(isinstance(number, (int, float)) and 0 <= number < math.inf for number in found):
        return None
    # The first that is not 0: protobuf cannot tell a field that is 0 from one that was not set.
    return min(float(next(filter(None, found), 0.0)), MAX_SHARE) if found else None


def _fields(message: bytes) -> Iterator[tuple[str, float]]:
    """The doubles of interest of a protobuf message. Raises ValueError or IndexError."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _DOUBLE:
            if at + 8 > len(message):
                raise ValueError("cut off")
            if number in _FIELDS:
                yield _FIELDS[number], unpack_from("<d", message, at)[0]
            at += 8
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            at += length
        elif kind == _FLOAT:
            at += 4
        else:
            raise ValueError("no protobuf message")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")
