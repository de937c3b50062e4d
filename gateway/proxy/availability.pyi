from collections.abc import Mapping

from gateway.board import Board
from gateway.proxy.backend import Backend
from gateway.rules.view import Resources

class Availability(Resources):
    def __init__(self, backends: Mapping[str, Backend], board: Board) -> None: ...
    def facts(self) -> tuple[dict[str, float | None], dict[str, int]]: ...
