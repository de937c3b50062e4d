from gateway.rules.actions import Step
from gateway.rules.request_key import RequestKey
from gateway.rules.template import Template

class RateLimit:
    name: str
    text: str
    dry_run: bool
    by: RequestKey
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
    def refused(self, wait: int) -> bytes: ...

class CountRate(Step):
    def __init__(self, limit: RateLimit) -> None: ...
