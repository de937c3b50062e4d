from collections.abc import Iterable

from gateway.rules.actions import Step
from gateway.rules.template import Template

class RewriteResponse(Step):
    def __init__(
        self,
        location: Iterable[tuple[str, Template]],
        cookie_path: Iterable[tuple[str, Template]],
        cookie_domain: Iterable[tuple[str, Template]],
        *,
        ranges: Iterable[tuple[int, int]] = (),
    ) -> None: ...
