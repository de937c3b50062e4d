from gateway.rules.actions import Step
from gateway.rules.routes import RouteTable
from gateway.rules.view import View

class Classify(Step):
    def __init__(self, classes: RouteTable, only: str | None = None) -> None: ...
    def tried(self, view: View) -> list[tuple[str, str | None]]: ...
