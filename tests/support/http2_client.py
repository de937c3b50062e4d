"""A client that speaks HTTP/2 with the library h2, independent of the gateway, and violates the protocol on request."""

import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from tests.support.closing import Closing

GOAWAY = 7
LIMIT = 10.0  # seconds for any one step

Fields = list[tuple[str, str]]


@dataclass(slots=True)
class Answer:
    """What has come for a stream so far. `reset`: the code of a RST_STREAM, from either side of the end."""

    status: int = 0
    fields: Fields = field(default_factory=list)
    body: bytes = field(default=b"", repr=False)
    trailers: Fields = field(default_factory=list)
    interims: list[int] = field(default_factory=list)
    interim_fields: list[Fields] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def header(self, name: str) -> str | None:
        """Return the value of the one field of that name, None without it."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Http2Client(Closing):
    """One connection to a local port, over TLS if there is a `context`.

    `window` is what each stream may receive at first. With `takes=False` nothing that comes is acknowledged: windows
    stay as they are unless `connection` is told otherwise.
    """

    def __init__(
        self, port: int, context: ssl.SSLContext | None = None, window: int | None = None, *, takes: bool = True
    ) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        if context is not None:
            context.set_alpn_protocols(["h2"])
            secure = context.wrap_socket(self.socket, server_hostname="localhost")
            assert secure.selected_alpn_protocol() == "h2"
            self.socket = secure
        config = H2Configuration(
            client_side=True,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=True,
        )
        self.connection = H2Connection(config)
        self._takes = takes
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        """(last stream, error code) of each GOAWAY; h2 never sees one, because it would take nothing more then."""
        self.closed = False
        self._unread = b""
        if window is not None:
            self.connection.local_settings = Settings(
                client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to send."""
        self.socket.sendall(self.connection.data_to_send())

    def head(self, path: str = "/", *fields: tuple[str, str], method: str = "GET") -> Fields:
        """Return the fields of a request."""
        scheme = "https" if isinstance(self.socket, ssl.SSLSocket) else "http"
        pseudo = [(":method", method), (":scheme", scheme), (":authority", "localhost"), (":path", path)]
        return [*pseudo, *fields]

    def begin(self, path: str = "/", *fields: tuple[str, str], method: str = "GET", end: bool = True) -> int:
        """Send a request's head; return its stream."""
        return self.send_head(self.head(path, *fields, method=method), end=end)

    def send_head(self, fields: Iterable[tuple[str, str]], *, end: bool = True) -> int:
        """Send these fields, whatever they are; return the stream."""
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, list(fields), end_stream=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send_body(self, stream: int, body: bytes, *, end: bool = True) -> None:
        """Send a body, as its windows allow; meanwhile what comes is read."""
        while body:
            room = min(
                self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size, len(body)
            )
            if room <= 0:
                self.read()
                continue
            self.connection.send_data(stream, body[:room])
            body = body[room:]
            self.flush()
        if end:
            self.connection.end_stream(stream)
            self.flush()

    def get(self, path: str = "/", *fields: tuple[str, str], method: str = "GET") -> Answer:
        """Send a request without a body and return its answer."""
        return self.wait(self.begin(path, *fields, method=method))

    def post(self, path: str, body: bytes, *fields: tuple[str, str]) -> Answer:
        """Send a request with a body and return its answer."""
        stream = self.begin(path, *fields, method="POST", end=False)
        self.send_body(stream, body)
        return self.wait(stream)

    def wait(self, stream: int) -> Answer:
        """Read until the stream is at its end. Raises AssertionError, TimeoutError."""
        answer = self.answers[stream]
        self.until(lambda: answer.ended or answer.reset is not None, f"stream {stream} to end")
        return answer

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Read until `holds()`. Raises AssertionError if the connection ends before, TimeoutError."""
        while not holds():
            assert not self.closed, f"closed, waiting for {what}; {self.goaways}, {self.answers}"
            self.read()

    def until_closed(self) -> None:
        """Read until the other side closes. Raises TimeoutError."""
        while not self.closed:
            self.read()

    def read(self) -> None:
        """Read once. Raises TimeoutError."""
        try:
            data = self.socket.recv(1 << 16)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            return
        self._unread += data
        while len(self._unread) >= 9:
            length = int.from_bytes(self._unread[:3], "big") + 9
            if len(self._unread) < length:
                break
            frame, self._unread = self._unread[:length], self._unread[length:]
            if frame[3] == GOAWAY:
                last, code = struct.unpack(">II", frame[9:17])
                self.goaways.append((last, code))
            else:
                for event in self.connection.receive_data(frame):
                    self._take(event)
        try:
            self.flush()
        except OSError:
            self.closed = True

    def _take(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0, Answer())
        match event:
            case events.InformationalResponseReceived():
                answer.interims.append(int(event.headers[0][1]))
                answer.interim_fields.append([(str(k), str(v)) for k, v in event.headers])
            case events.ResponseReceived():
                answer.status = int(event.headers[0][1])
                answer.fields = [(str(k), str(v)) for k, v in event.headers[1:]]
            case events.DataReceived():
                answer.body += event.data
                if self._takes and event.flow_controlled_length:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.TrailersReceived():
                answer.trailers = [(str(k), str(v)) for k, v in event.headers]
            case events.StreamEnded():
                answer.ended = True
            case events.StreamReset():
                answer.reset = int(event.error_code)

    def close(self) -> None:
        """Close at once."""
        self.socket.close()
