"""Make a finding small: leave out what it does not need."""

from collections.abc import Callable

Fails = Callable[[bytes], bool]
"""Whether an input still shows the fault."""


def shrink(data: bytes, fails: Fails, grain: int = 1, tries: int = 4000) -> bytes:
    """Return a smaller input that `fails` as well: pieces of `grain` bytes are left out, then bytes made 0."""
    head = data[:grain] if grain > 1 else b""
    pieces = [data[at : at + grain] for at in range(len(head), len(data), grain)]
    size = max(1, len(pieces) // 2)
    while size and tries > 0:
        at = 0
        shorter = False
        while at < len(pieces) and tries > 0:
            tries -= 1
            attempt = pieces[:at] + pieces[at + size :]
            if fails(head + b"".join(attempt)):
                pieces, shorter = attempt, True
            else:
                at += size
        size = size if shorter and size == 1 else size // 2
    for number, piece in enumerate(pieces):
        for at in range(1 if grain > 1 else 0, len(piece)):
            if tries <= 0 or not piece[at]:
                continue
            tries -= 1
            plainer = pieces[number][:at] + b"\0" + pieces[number][at + 1 :]
            if fails(head + b"".join((*pieces[:number], plainer, *pieces[number + 1 :]))):
                pieces[number] = plainer
    return head + b"".join(pieces)
