"""Runs classic BPF as the kernel does, as far as our filters use it."""

import struct
from collections.abc import Sequence


def verdict(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Return what a seccomp filter says about a call. Raises AssertionError for a program that the kernel refuses."""
    arguments = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, architecture, 0, *arguments)
    steps = list(struct.iter_unpack("=HBBI", program))
    assert len(steps) <= 4096
    at, word = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        if code == 0x20:
            (word,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            word &= value
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: word == value, 0x25: word > value, 0x45: bool(word & value)}[code]
            at += yes if holds else no
