from collections.abc import Iterable, Mapping

from gateway.rules.map_lookup import MapLookup
from gateway.rules.view import View

class Template:
    def __init__(
        self,
        parts: Iterable[tuple[str, str | None]],
        groups: Mapping[str, str],
        maps: Mapping[str, MapLookup],
        *,
        url: bool,
    ) -> None: ...
    fixed: bytes | None
    def text(self, view: View) -> bytes: ...
