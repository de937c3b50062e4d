from collections.abc import Iterable
from typing import Literal

from gateway.rules.actions import Step
from gateway.rules.conditions import Condition
from gateway.rules.view import View

class Arrival(Step):
    names: tuple[str, ...]
    def __init__(self, key: bytes, names: Iterable[str]) -> None: ...
    def loads(self, view: View) -> dict[str, float | None]: ...

class ToSite(Step):
    def __init__(
        self,
        own: str,
        peers: Iterable[tuple[str, str, Condition | None]],
        key: bytes,
        how: Literal["named", "best", "full", "spill"],
    ) -> None: ...
