from collections.abc import Iterable, Mapping, Sequence

from gateway.config.apache_directives import Directives
from gateway.rules.actions import Step
from gateway.rules.apache import ApacheRules
from gateway.rules.basic_auth import Logins

class ApacheFile(Step):
    def __init__(
        self,
        other: Directives,
        rules: ApacheRules,
        inner: Sequence[tuple[bytes, ApacheRules]],
        targets: Mapping[str, object],
        *,
        name: str,
        directory: bool,
        base: str,
        knows_files: bool,
        users: Mapping[str, Logins],
    ) -> None: ...

class ApacheHosts(Step):
    def __init__(self, hosts: Iterable[tuple[Sequence[str], int, Step]], *, name: str) -> None: ...
