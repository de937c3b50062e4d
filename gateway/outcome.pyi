ABUSES: tuple[tuple[str, str], ...]
OUTCOMES: tuple[tuple[str, str, str], ...]
SIDES: tuple[str, ...]

def tls_failure(error: int) -> str: ...
