from collections.abc import Iterable, Sequence

from gateway.proxy.challenges import Challenges

CIPHERS: dict[str, bytes]
NUMBER: str

def exported(pem: bytes) -> bytes: ...

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
    def check(self) -> None: ...

class ServerContext:
    def __init__(
        self,
        name: str,
        identities: Sequence[Identity],
        *,
        bound: Sequence[str],
        secret: bytes,
        policy: str = "intermediate",
        min_version: str = "1.2",
        http2: bool = False,
        strict: bool = False,
        clients: Trust | None = None,
        required: bool = False,
        challenges: Challenges | None = None,
    ) -> None: ...
