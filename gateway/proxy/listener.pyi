import socket as sockets

from gateway.proxy.conn import Poller
from gateway.proxy.hub import Frontend, Hub

class Listener:
    frontend: Frontend
    socket: sockets.socket
    name: str
    def __init__(self, hub: Hub, frontend: Frontend, sock: sockets.socket) -> None: ...
    def accept_waiting(self) -> None: ...
    def stop(self) -> None: ...

def retire_clients(poller: Poller) -> int: ...
