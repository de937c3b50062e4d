ABUSES: tuple[tuple[str, str], ...]
OUTCOMES: tuple[tuple[str, str, str], ...]
SIDES: tuple[str, ...]
