from collections.abc import Iterable, Mapping

from gateway.rules.actions import Step
from gateway.rules.question import Question

KNOWN: int
GOOD: float
BAD: float

class Logins:
    hashes: Mapping[bytes, str]
    def __init__(self, hashes: Mapping[bytes, str]) -> None: ...
    def fits(self, user: bytes, password: bytes) -> bool: ...
    def keep(self, digest: bytes, *, good: bool, now: float) -> None: ...

class Login(Question):
    key: bytes
    logins: Logins
    def check(self) -> bool: ...
    def settle(self, *, good: bool) -> None: ...

class RequireLogin(Step):
    def __init__(self, logins: Logins, realm: str, users: Iterable[str] = (), *, forward: bool = True) -> None: ...

def credentials(values: list[bytes]) -> tuple[bytes, bytes] | None: ...
