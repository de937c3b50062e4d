from collections.abc import Iterable, Mapping

from gateway.rules.view import View

class Template:
    def __init__(self, parts: Iterable[tuple[str, str | None]], groups: Mapping[str, str], *, url: bool) -> None: ...
    fixed: bytes | None
    def text(self, view: View) -> bytes: ...
