from gateway.rules.actions import Step
from gateway.rules.template import Template
from gateway.rules.view import View

class RateLimit:
    name: str
    text: str
    dry_run: bool
    def __init__(
        self,
        name: str,
        rate: float,
        burst: int,
        *,
        per: str | None,
        field: str = "",
        template: Template | None = None,
        delay: float = 0.0,
        dry_run: bool = False,
        secret: bytes,
    ) -> None: ...
    def key_of(self, view: View) -> int: ...
    def refused(self, wait: int) -> bytes: ...

class CountRate(Step):
    def __init__(self, limit: RateLimit) -> None: ...
