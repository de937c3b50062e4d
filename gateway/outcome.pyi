ABUSES: tuple[tuple[str, str], ...]
HANDSHAKES: tuple[tuple[str, str], ...]
RETRY_CAUSES: tuple[str, ...]
OUTCOMES: tuple[tuple[str, str, str], ...]
SIDES: tuple[str, ...]

def tls_failure(error: int) -> str: ...
