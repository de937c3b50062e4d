from gateway.proxy.tls import Identity, Trust

class ClientContext:
    def __init__(
        self, trust: Trust | None, min_version: str, identity: Identity | None, http2: bool = False
    ) -> None: ...

def text_of(error: int) -> str: ...
