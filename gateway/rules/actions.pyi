from collections.abc import Iterable, Mapping

from gateway.rules.template import Template

class Respond:
    status: int
    lines: bytes
    body: bytes | None
    rule: bytes | None
    why: bytes | None
    closes: bool
    def __init__(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes | None, *, closes: bool = False
    ) -> None: ...

class Step:
    text: str

class Redirect(Step):
    def __init__(self, status: int, template: Template, *, elsewhere: bool, text: str) -> None: ...

class RespondWith(Step):
    def __init__(
        self, status: int, lines: Iterable[tuple[str, str]], headers: Mapping[str, Template], body: bytes
    ) -> None: ...

class Rewrite(Step):
    def __init__(self, template: Template, text: str) -> None: ...

class RequireClientCertificate(Step):
    def __init__(self) -> None: ...

class SetClass(Step):
    def __init__(self, name: str) -> None: ...

class LimitBandwidth(Step):
    def __init__(self, bandwidth: int, text: str) -> None: ...

class EditHeaders(Step):
    def __init__(
        self,
        replace: Mapping[str, Template | None],
        append: Mapping[str, Template],
        default: Mapping[str, Template],
        *,
        response: bool,
        ranges: Iterable[tuple[int, int]] = (),
    ) -> None: ...

class SetPages(Step):
    def __init__(self, pages: Mapping[int, tuple[bytes, bytes]]) -> None: ...

def of_responses(ranges: Iterable[tuple[int, int]]) -> str: ...
