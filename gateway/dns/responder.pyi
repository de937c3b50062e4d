from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from qos.rates import RateTable

REASONS: Final[tuple[str, ...]]

class Answer:
    code: int
    authoritative: bool
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
        number: int = 0,
    ) -> None: ...

Find: TypeAlias = Callable[[bytes, int, bytes, int], tuple[Answer, int]]

class Responder:
    find: Find
    def __init__(self, find: Find, cookie_key: bytes, rates: RateTable | None = None) -> None: ...
    def configure(
        self, cookie_key: bytes, *, nsid: bytes | None = None, limit: int = 1232, rate: int = 0, subnets: bool = True
    ) -> None: ...
    def respond(self, message: bytes, address: bytes, *, tcp: bool = False) -> bytes | None: ...
    def serve(self, fd: int) -> None: ...
    def counts(self) -> dict[str, Any]: ...
