from collections.abc import Callable

class Provenance:
    address: bytes
    client: bytes
    def __init__(
        self,
        address: bytes,
        https: bool,
        fallback: bytes,
        via: bytes,
        trusts: Callable[[str], bool] | None,
        client_from: bytes = b"",
    ) -> None: ...

def for_server(head: bytes, origin: Provenance, request_id: bytes = b"", extra: bytes = b"") -> bytes: ...
def seen_of(head: bytes, origin: Provenance) -> tuple[bytes, bool]: ...
def for_client(head: bytes, extra: bytes, request_id: bytes = b"") -> bytes: ...
