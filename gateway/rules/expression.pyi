from collections.abc import Mapping
from typing import Any

from gateway.config.expression import Node
from gateway.rules.conditions import Condition
from gateway.rules.map_lookup import MapLookup
from gateway.rules.view import View

class Unknown(Exception): ...

class When(Condition):
    def __init__(self, text: str, node: Node, maps: Mapping[str, MapLookup]) -> None: ...

def evaluate(node: Node, view: View) -> Any: ...
