from collections.abc import Iterable, Sequence
from typing import Any

from gateway.rules.actions import Respond, Step
from gateway.rules.conditions import Condition
from gateway.rules.view import View

class Route:
    index: int
    action: Any
    steps: tuple[Step, ...]
    hosts: tuple[str, ...]
    paths: tuple[tuple[str, str], ...]
    def __init__(
        self,
        index: int,
        scheme: str | None,
        hosts: Iterable[str],
        paths: Iterable[tuple[str, str]],
        action: object,
        conditions: Iterable[Condition] = (),
        steps: Iterable[Step] = (),
    ) -> None: ...

class RouteTable:
    routes: list[Route]
    before: tuple[Step, ...] | None
    def __init__(self, routes: Sequence[Route], before: Iterable[Step] = ()) -> None: ...
    def find(self, view: View) -> Any | Respond | None: ...
    def explain(self, view: View) -> tuple[Any | Respond | None, dict[str, Any]]: ...
