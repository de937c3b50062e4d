from collections.abc import Callable, Mapping
from typing import Any

class Edits:
    def set(self, name: bytes, value: bytes | None) -> None: ...
    def append(self, name: bytes, value: bytes) -> None: ...
    def settled(self, status: int) -> tuple[list[bytes], bytes]: ...
    def listed(self) -> tuple[list[bytes], bytes]: ...
    def _settle_lines(self, fields: list[list[Any]]) -> None: ...

class Resources: ...

class Assumed(Resources):
    def __init__(
        self,
        loads: Mapping[str, float | None],
        up: Mapping[str, int],
        sessions: int = 0,
        site_loads: Mapping[str, float] = ...,
        spilled: Mapping[str, float] = ...,
    ) -> None: ...

class View:
    resources: Resources
    clock: Callable[[], float]
    request_id: bytes | None
    client: bytes
    groups: dict[str, bytes] | None
    klass: str | None
    notes: list[tuple[str, str]] | None
    arrived: str | None
    user: bytes | None
    settled: dict[bytes, bool] | None
    site: str | None
    request_edits: Edits | None
    response_edits: Edits | None
    uri_now: bytes
    path_now: bytes
    query_now: bytes | None
    host_now: bytes
    method_now: bytes
    https: bool
    frontend: str | None
    reproducible: bool
    pages: dict[int, tuple[bytes, bytes]] | None
    def read(self, head: bytes, *, https: bool = False, client: str = "127.0.0.1") -> tuple[int, str] | None: ...
    def lookup(self, where: str, name: str) -> list[bytes]: ...
