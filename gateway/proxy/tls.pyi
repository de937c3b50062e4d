from collections.abc import Sequence

TICKET_KEY_BYTES: int

def names_of(pem: bytes) -> tuple[str, ...]: ...

class ServerContext:
    def __init__(
        self, name: str, pairs: Sequence[tuple[bytes, bytes]], min_version: str, ticket_key: bytes
    ) -> None: ...
