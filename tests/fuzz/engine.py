"""A small fuzzer: it damages inputs at random and keeps those that make a target behave in a new way.

Compiled modules tell nothing about the branches that they take, unless they are built to (coverage.py); what a target
returns, such as the reason of a refusal, stands for them. An input for which a target raises is a finding. No state but the seed: a run can be
repeated.
"""

import random
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

Target = Callable[[bytes], Hashable]
"""Takes any bytes and returns how it behaved, in few different values; raises AssertionError where that is wrong.

A frozenset is several of them: an input is kept if one is new.
"""

LONGEST = 4096
MOST = 2000


@dataclass(slots=True)
class Finding(Exception):
    """An input for which a target raised."""

    data: bytes
    error: Exception

    def __str__(self) -> str:
        return f"{self.error!r} for {self.data!r}"


@dataclass(slots=True)
class Fuzzer:
    """Runs `target` on the corpus and on what it makes of that; `words` are put in more often than chance would.

    An input is a row of units of `grain` bytes, which are moved as a whole, and has at most `longest` bytes. `note` is
    told each input before it is run: a crash leaves nothing else. `most` inputs are kept.
    """

    target: Target
    words: Sequence[bytes]
    seed: int = 0
    grain: int = 1
    longest: int = LONGEST
    most: int = MOST
    note: Callable[[bytes], object] = bool
    runs: int = 0
    _random: random.Random = field(init=False)
    _kept: list[bytes] = field(init=False, default_factory=list)
    _seen: set[Hashable] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def try_one(self, data: bytes) -> bool:
        """Run the target; keep the input if it behaved in a new way, and tell so. Raises Finding."""
        self.runs += 1
        self.note(data)
        try:
            behaviour = self.target(data)
        except Exception as error:
            raise Finding(data, error) from error
        found = behaviour if isinstance(behaviour, frozenset) else {behaviour}
        if found <= self._seen or len(self._kept) >= self.most:
            return False
        self._seen |= found
        self._kept.append(data)
        return True

    def run(self, corpus: Iterable[bytes], seconds: float) -> int:
        """Fuzz for so long, the corpus first; return how many behaviours were seen. Raises Finding."""
        for data in corpus:
            self.try_one(data)
            self._kept.append(data)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(50):
                self.try_one(self.mutated(self._random.choice(self._kept)))
        return len(self._seen)

    def mutated(self, data: bytes) -> bytes:
        """Return `data` with one to six changes."""
        choose, grain = self._random, self.grain
        changed = bytearray(data)
        for _ in range(choose.randint(1, 6)):
            at = choose.randint(0, len(changed) // grain) * grain
            match choose.randrange(8):
                case 0 | 1:
                    # Units mean something by themselves: a row of them is as good as one.
                    changed[at:at] = b"".join(choose.choices(self.words, k=choose.randint(1, 8) if grain > 1 else 1))
                case 2:
                    changed[at : at + choose.randint(1, 8) * grain] = choose.choice(self.words)
                case 3:
                    del changed[at : at + choose.randint(1, 16) * grain]
                case 4:
                    at += choose.randrange(grain)
                    changed[at : at + 1] = bytes((choose.randrange(256),))
                case 5:
                    at += choose.randrange(grain)
                    if at < len(changed):
                        changed[at] ^= 1 << choose.randrange(8)
                case 6:
                    changed[at:at] = changed[at : at + choose.randint(1, 64) * grain]
                case _:
                    other = choose.choice(self._kept)
                    changed[at:] = other[choose.randint(0, len(other) // grain) * grain :]
        return bytes(changed[: self.longest])
