from collections.abc import Callable, Collection, Mapping

from gateway.config.apache_rules import Rules
from gateway.rules.actions import Step

class ApacheState:
    environment: dict[bytes, bytes]
    rewritten: bool

class ApacheRules(Step):
    state: ApacheState
    shared: bool
    def __init__(
        self,
        rules: Rules,
        targets: Mapping[str, object],
        *,
        name: str,
        directory: bool,
        base: str,
        document_root: str,
        exists: Collection[str],
        choose: Callable[[int], int],
        state: ApacheState | None = None,
        slashes: str = "off",
    ) -> None: ...
