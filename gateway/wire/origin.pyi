from collections.abc import Callable

class Provenance:
    address: bytes
    def __init__(
        self, address: bytes, https: bool, fallback: bytes, via: bytes, trusts: Callable[[str], bool] | None
    ) -> None: ...

def for_server(head: bytes, origin: Provenance, request_id: bytes = b"", extra: bytes = b"") -> bytes: ...
def for_client(head: bytes, extra: bytes, request_id: bytes = b"") -> bytes: ...
