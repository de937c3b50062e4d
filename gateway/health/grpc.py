"""gRPC's health check (grpc.health.v1.Health/Check) over HTTP/2: one connection, one request.

The messages are two protobuf fields, encoded and decoded here; h2 does HTTP/2 and its header compression.
Source: the gRPC health checking protocol and gRPC over HTTP/2 (PROTOCOL-HTTP2) of github.com/grpc/grpc/doc.
"""

import asyncio
from types import SimpleNamespace
from typing import Final

import h2.config
import h2.connection
import h2.events

from gateway.health.opening import arguments, is_unix
from gateway.health.result import Outcome
from gateway.health.tls import H2, Tls, options
from loadagent.http_get import Place

SERVING: Final = 1
MAX_BYTES: Final = 64 * 1024  # read in total
_STATES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_PREFIX: Final = 5  # bytes before a message: compression flag and length


class BadAnswer(Exception):
    """The response is not a valid health check response."""


class ClosedEarly(Exception):
    """The server closed the connection, or refused the stream, without a response."""


async def check(
    place: Place, host: str, service: str, progress: SimpleNamespace, tls: Tls | None = None
) -> tuple[Outcome, str]:
    """Query once whether `service` is serving ("": the whole server). Sets `progress.connected` once connected.

    Raises BadAnswer, ClosedEarly, OSError and what h2 raises (h2.exceptions.ProtocolError).
    """
    if is_unix(place):
        reader, writer = await asyncio.open_unix_connection(**arguments(place))
    else:
        reader, writer = await asyncio.open_connection(**(arguments(place) | options(tls, H2)))
    progress.connected = True
    try:
        exchange = _Exchange(host, service, "http" if tls is None else "https")
        read = 0
        while not exchange.ended:
            writer.write(exchange.to_send())
            data = await reader.read(MAX_BYTES)
            read += len(data)
            if read > MAX_BYTES:
                raise BadAnswer("response too long")
            if not data and read and not exchange.greeted:
                raise BadAnswer("this is not HTTP/2")
            if not data:
                raise ClosedEarly("closed without a response")
            exchange.receive(data)
        return exchange.verdict()
    finally:
        writer.transport.abort()


class _Exchange:
    """The request and its response, without a socket."""

    def __init__(self, host: str, service: str, scheme: str = "http") -> None:
        self.ended = False
        self.greeted = False  # the server speaks HTTP/2 (RFC 9113 section 3.4)
        self._data = b""
        self._fields: dict[str, str] = {}
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._connection = h2.connection.H2Connection(config)
        self._connection.initiate_connection()
        self._stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(
            self._stream,
            [
                (":method", "POST"),
                (":scheme", scheme),
                (":path", "/grpc.health.v1.Health/Check"),
                (":authority", host),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "gateway-check"),
            ],
        )
        name = service.encode()
        message = b"\x0a" + _varint(len(name)) + name if name else b""
        self._connection.send_data(self._stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)

    def to_send(self) -> bytes:
        """The bytes to send now."""
        return self._connection.data_to_send() or b""

    def receive(self, data: bytes) -> None:
        """Process bytes from the server. Raises ClosedEarly, h2.exceptions.ProtocolError."""
        for event in self._connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self._fields.update((str(name), str(value)) for name, value in event.headers or ())
            elif isinstance(event, h2.events.DataReceived):
                self._data += event.data or b""
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, self._stream)
            elif isinstance(event, h2.events.RemoteSettingsChanged):
                self.greeted = True
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated) and not self.ended:
                raise ClosedEarly(f"refused, HTTP/2 error {event.error_code}")

    def verdict(self) -> tuple[Outcome, str]:
        """The result of the complete response. Raises BadAnswer."""
        if self._fields.get(":status") != "200":
            raise BadAnswer(f"HTTP {self._fields.get(':status')}")
        status = self._fields.get("grpc-status")
        if status != "0":
            why = "".join(filter(str.isprintable, self._fields.get("grpc-message", "")))[:120]
            return Outcome.GRPC_STATUS, f"grpc-status {status}" + (f", {why}" if why else "")
        message = self._data[_PREFIX:]
        if len(self._data) < _PREFIX or self._data[0] or int.from_bytes(self._data[1:_PREFIX], "big") != len(message):
            raise BadAnswer("no message in the response")
        state = _first_field(message)
        if state == SERVING:
            return Outcome.OK, "SERVING"
        return Outcome.GRPC_NOT_SERVING, _STATES.get(state, f"state {state}")


def _varint(number: int) -> bytes:
    """Encode a length as protobuf does."""
    low = b""
    while number > 0x7F:
        low += bytes([number & 0x7F | 0x80])
        number >>= 7
    return low + bytes([number])


def _first_field(message: bytes) -> int:
    """The enumeration in field 1; 0, protobuf's default, if it is missing. Raises BadAnswer."""
    if not message:
        return 0
    if len(message) < len(b"\x08\x00") or message[0] != 0x08 or message[1] > 0x7F:
        raise BadAnswer("no state in the response")
    return message[1]
