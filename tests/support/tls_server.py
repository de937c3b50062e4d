"""A server that speaks TLS, and answers as a script of raw_server.py says."""

import contextlib
import socket
import ssl

from tests.support.raw_server import Acceptor, Script, read_head


class TlsServer(Acceptor):
    """Runs `script` for each connection whose handshake succeeds; `names` are what they were asked for (SNI).

    `resumed` says for each whether it went on with a session, `failed` how many handshakes failed. `alpn` is what was
    agreed on.
    """

    def __init__(self, context: ssl.SSLContext, script: Script, name: str = "secure") -> None:
        super().__init__()
        self.name = name
        self.context = context
        self.script = script
        self.heads: list[bytes] = []
        self.names: list[str | None] = []
        self.resumed: list[bool] = []
        self.alpn: list[str | None] = []
        self.failed = 0
        self.clients: list[str] = []
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.sni_callback = lambda _, name, __: self.names.append(name)

    def serve(self, connection: socket.socket, number: int) -> None:
        """Shake hands, read a head, and let the script go on; what it leaves open is closed without a close_notify."""
        try:
            secure = self.context.wrap_socket(connection, server_side=True)
        except (OSError, ssl.SSLError):
            self.failed += 1
            raise
        self._sockets[number - 1] = secure  # it has taken the descriptor over
        with contextlib.closing(secure):
            self.resumed.append(bool(secure.session_reused))
            self.alpn.append(secure.selected_alpn_protocol())
            shown = secure.getpeercert(binary_form=True)
            if shown is not None:
                self.clients.append(ssl.DER_cert_to_PEM_cert(shown))
            head = read_head(secure)
            if head:
                self.heads.append(head)
                self.script(secure, head)
