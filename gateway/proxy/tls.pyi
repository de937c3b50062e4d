from collections.abc import Iterable, Sequence

CIPHERS: dict[str, bytes]

def names_of(pem: bytes) -> tuple[str, ...]: ...
def exported(pem: bytes) -> bytes: ...
def kind_of(pem: bytes) -> str: ...

class Trust:
    pem: bytes
    def __init__(self, pem: bytes) -> None: ...

class Identity:
    names: frozenset[str]
    kind: str
    def __init__(
        self,
        chain: bytes,
        key: bytes | memoryview,
        names: Iterable[str],
        kind: str,
        ocsp: bytes | None = None,
        ocsp_until: int = 0,
    ) -> None: ...

class ServerContext:
    def __init__(
        self,
        name: str,
        identities: Sequence[tuple[Identity, str]],
        *,
        secret: bytes,
        policy: str = "intermediate",
        min_version: str = "1.2",
        http2: bool = False,
        strict: bool = False,
        clients: Trust | None = None,
        required: bool = False,
    ) -> None: ...
