"""A server that speaks HTTP/2 with the library h2, independent of the gateway, and misbehaves on request."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.support.origin import filler
from tests.support.raw_server import Acceptor

Fields = list[tuple[str, str]]


@dataclass(slots=True)
class Call:
    """A request so far. `reset`: the code of the client's RST_STREAM."""

    stream: int
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def header(self, name: str) -> str | None:
        """Return the value of the one field of that name, None without it."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def path(self) -> str:
        """Its :path."""
        return self.header(":path") or ""


class Ended(Exception):
    """The other side has closed the connection."""


class Peer:
    """A connection: the calls on it in their order, and how to answer them."""

    def __init__(self, connection: socket.socket, settings: dict[SettingCodes, int]) -> None:
        self.socket = connection
        config = H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.connection = H2Connection(config)
        self.connection.local_settings = Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 100, **settings}
        )
        self.connection.decoder.max_header_list_size = settings.get(SettingCodes.MAX_HEADER_LIST_SIZE, 65536)
        self.calls: dict[int, Call] = {}
        self.pings = 0
        self.goaway: int | None = None
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to send."""
        self.socket.sendall(self.connection.data_to_send())

    def read(self) -> None:
        """Read once. Raises Ended, TimeoutError."""
        try:
            data = self.socket.recv(1 << 16)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            raise Ended
        for event in self.connection.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: Any) -> None:
        call = self.calls.get(getattr(event, "stream_id", None) or 0)
        match event:
            case events.RequestReceived():
                self.calls[event.stream_id] = Call(event.stream_id, [(str(k), str(v)) for k, v in event.headers])
            case events.DataReceived():
                if call is not None:
                    call.body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.TrailersReceived():
                assert call is not None
                call.trailers = [(str(k), str(v)) for k, v in event.headers]
            case events.StreamEnded():
                assert call is not None
                call.ended = True
            case events.StreamReset():
                if call is not None:
                    call.reset = int(event.error_code)
            case events.PingReceived():
                self.pings += 1
            case events.ConnectionTerminated():
                self.goaway = int(event.error_code or 0)

    def until(self, holds: Callable[[], object]) -> None:
        """Read until `holds()`. Raises Ended, TimeoutError."""
        while not holds():
            self.read()

    def complete(self) -> Iterator[Call]:
        """Give each call once it is complete, until the connection ends."""
        done: set[int] = set()
        with contextlib.suppress(Ended):
            while True:
                for call in list(self.calls.values()):
                    if call.ended and call.stream not in done:
                        done.add(call.stream)
                        yield call
                self.read()

    def first(self, count: int = 1) -> list[Call]:
        """Return the first calls once their heads are there."""
        self.until(lambda: len(self.calls) >= count)
        return list(self.calls.values())[:count]

    def head(self, call: Call, status: int, *fields: tuple[str, str], end: bool = False) -> None:
        """Send a head."""
        self.connection.send_headers(call.stream, [(":status", str(status)), *fields], end_stream=end)
        self.flush()

    def body(self, call: Call, body: bytes, *, end: bool = True) -> None:
        """Send a body as windows allow; meanwhile what comes is read."""
        while body and call.reset is None:
            room = min(
                self.connection.local_flow_control_window(call.stream),
                self.connection.max_outbound_frame_size,
                len(body),
            )
            if room <= 0:
                self.read()
                continue
            self.connection.send_data(call.stream, body[:room])
            body = body[room:]
            self.flush()
        if end and call.reset is None:
            self.connection.end_stream(call.stream)
            self.flush()

    def answer(self, call: Call, body: bytes = b"", *fields: tuple[str, str], status: int = 200) -> None:
        """Send a whole response without a content-length."""
        self.head(call, status, *fields)
        self.body(call, body)

    def trailers(self, call: Call, *fields: tuple[str, str]) -> None:
        """End a response with these."""
        self.connection.send_headers(call.stream, list(fields), end_stream=True)
        self.flush()


Script = Callable[[Peer], None]


def paths(peer: Peer) -> None:
    """Answer as the path says: /bytes/N, /sink, /headers, anything else with "ok"."""
    for call in peer.complete():
        _, kind, *rest = call.path.split("/")
        if kind == "bytes":
            body = filler(int(rest[0]))
            peer.head(call, 200, ("content-length", str(len(body))))
            peer.body(call, b"" if call.header(":method") == "HEAD" else body)
        elif kind == "sink":
            peer.answer(call, b"%d" % len(call.body))
        elif kind == "echo":
            peer.answer(call, call.body)
        elif kind == "headers":
            peer.answer(call, "\n".join(f"{name}: {value}" for name, value in call.fields).encode())
        elif kind == "status":
            peer.head(call, int(rest[0]), end=True)
        else:
            peer.answer(call, b"ok", ("content-length", "2"))


class Http2Server(Acceptor):
    """Runs `script` for each connection; `peers` are their other sides. Over TLS if there is a `context`."""

    def __init__(
        self,
        script: Script = paths,
        context: ssl.SSLContext | None = None,
        name: str = "h2",
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.script = script
        self.peers: list[Peer] = []
        self.context = context
        self.settings = settings or {}
        self.broken: list[ProtocolError] = []
        self._lock = threading.Lock()
        if context is not None:
            context.set_alpn_protocols(["h2", "http/1.1"])

    def serve(self, connection: socket.socket, number: int) -> None:
        """Shake hands, and let the script go on."""
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True)
            self._sockets[number - 1] = connection  # it has taken the descriptor over
        with contextlib.closing(connection):
            peer = Peer(connection, self.settings)
            with self._lock:
                self.peers.append(peer)
            try:
                with contextlib.suppress(Ended):
                    self.script(peer)
            except ProtocolError as error:
                self.broken.append(error)
                raise OSError("the gateway broke a rule of HTTP/2") from error

    @property
    def calls(self) -> list[Call]:
        """The calls of all connections."""
        return [call for peer in self.peers for call in list(peer.calls.values())]
