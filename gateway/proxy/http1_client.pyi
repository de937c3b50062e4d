from gateway.proxy.hub import ClientProtocol

PHASES: tuple[str, ...]

def edges() -> dict[tuple[str, str], int]: ...

class Http1ClientProtocol(ClientProtocol): ...
