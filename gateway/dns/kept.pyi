from collections.abc import Iterable, Sequence

class Answer:
    code: int
    authoritative: bool
    compact: bool
    answers: int
    authority: int
    records: bytes
    patches: tuple[tuple[int, int], ...]
    number: int
    def __init__(
        self,
        code: int,
        records: bytes = b"",
        answers: int = 0,
        authority: int = 0,
        patches: Iterable[tuple[int, int]] = (),
        *,
        authoritative: bool = True,
        compact: bool = False,
        number: int = 0,
    ) -> None: ...

class Kept:
    count: int
    def __init__(self, room: int = ...) -> None: ...
    def clear(self) -> None: ...
    def forget_turns(self) -> None: ...
    def put(self, name: bytes, kind: int, answers: Sequence[Answer], *, signed: bool = False) -> bool: ...
    def get(self, name: bytes, kind: int, *, signed: bool = False) -> tuple[int, int, int, bytes] | None: ...
