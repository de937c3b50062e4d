from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from gateway.config.fields import ValueMatch
from gateway.rules.view import View

class Condition:
    text: str
    cost: int
    def check(self, view: View) -> bool: ...

class MethodIs(Condition):
    def __init__(self, methods: Iterable[str]) -> None: ...

class FrontendIs(Condition):
    def __init__(self, names: Iterable[str]) -> None: ...

class SourceIn(Condition):
    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None: ...

class ClassIs(Condition):
    def __init__(self, names: Iterable[str]) -> None: ...

class ValueIs(Condition):
    def __init__(self, where: str, name: str, wanted: Sequence[ValueMatch]) -> None: ...
