from collections.abc import Sequence

from gateway.balance.policy import Members

class Affinity:
    def example(self, i: int) -> str | None: ...

class CookieAffinity(Affinity):
    def __init__(self, members: Members, name: str, attributes: str, key: bytes, tokens: Sequence[bytes]) -> None: ...

class LearnedAffinity(CookieAffinity): ...

class UrlAffinity(Affinity):
    def __init__(self, members: Members, name: str, servers: Sequence[str]) -> None: ...

class SourceAffinity(Affinity):
    def __init__(self, members: Members, bits: int) -> None: ...

class HeaderAffinity(Affinity):
    def __init__(self, members: Members, name: str) -> None: ...
