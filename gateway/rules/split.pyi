from collections.abc import Iterable
from typing import Any

from gateway.rules.actions import Step
from gateway.rules.template import Template

class Split(Step):
    def __init__(
        self,
        choices: Iterable[tuple[str, float, Any]],
        *,
        by: Template | None = None,
        cookie: str | None = None,
        attributes: str = "",
        text: str,
    ) -> None: ...

def point_of(key: bytes) -> float: ...
