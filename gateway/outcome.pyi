OUTCOMES: tuple[tuple[str, str, str], ...]
SIDES: tuple[str, ...]
