import socket as sockets

from gateway.proxy.conn import Poller
from gateway.proxy.worker_context import Frontend, WorkerContext

class Listener:
    frontend: Frontend
    socket: sockets.socket
    name: str
    def __init__(self, context: WorkerContext, frontend: Frontend, sock: sockets.socket) -> None: ...
    def accept_waiting(self) -> None: ...
    def stop(self) -> None: ...

def retire_clients(poller: Poller) -> int: ...
