"""The keys of load reports: one for each server, so that a server can report for itself alone."""

from collections.abc import Mapping

from gateway.secrets.keys import derive


def report_key(secret: bytes, server: str) -> bytes:
    """Return the key of a server, as its key file has it: 64 hexadecimal digits."""
    return derive(secret, b"load report key 1\0" + server.encode()).hex().encode()


class ReportKeys:
    """`own`: keys by the names of servers; those of all others are derived from `secret`, if there is one."""

    def __init__(self, own: Mapping[str, bytes], secret: bytes = b"") -> None:
        self._own = dict(own)
        self._secret = secret
        self._derived: dict[str, bytes] = {}

    def of(self, server: str) -> bytes | None:
        """Return the key that is this server's alone, or None. The caller asks only for servers that there are."""
        key = self._own.get(server) or self._derived.get(server)
        if key is None and self._secret:
            key = self._derived[server] = report_key(self._secret, server)
        return key
