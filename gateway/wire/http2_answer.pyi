from collections.abc import Iterable

def answer_of(
    fields: Iterable[tuple[bytes, bytes]], *, head_bytes: int = 65536, count: int = 1000, trailers: bool = False
) -> bytes | str: ...
