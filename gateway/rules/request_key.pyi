from gateway.rules.template import Template
from gateway.rules.view import View

class RequestKey:
    text: str
    def __init__(
        self, per: str | None, field: str = "", template: Template | None = None, *, secret: bytes
    ) -> None: ...
    def keys_of(self, view: View) -> list[int]: ...
    def key_of(self, view: View) -> int: ...
