from typing import Any, Final

REASONS: Final[dict[int, tuple[int, str]]]

def parse_request(
    data: bytes, head_bytes: int = 32768, target_bytes: int = 16384, fields: int = 100
) -> tuple[int, Any]: ...
def parse_response(data: bytes, head_bytes: int = 65536, fields: int = 1000) -> tuple[int, Any]: ...
