from gateway.rules.conditions import Condition
from gateway.rules.routes import RouteTable

class Within(Condition):
    def __init__(self, table: RouteTable, *, text: str, negate: bool) -> None: ...
