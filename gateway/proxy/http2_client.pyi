from gateway.proxy.worker_context import ClientProtocol

PHASES: tuple[str, ...]

def edges() -> dict[tuple[str, str], int]: ...

class Http2ClientProtocol(ClientProtocol): ...
