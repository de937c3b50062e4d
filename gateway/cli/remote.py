"""A running gateway that is asked over its admin API (gateway/admin/api.py): elsewhere, or at a Unix socket."""

import errno
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from gateway.cli.gateways import Gateway
from gateway.process.tail import Wanted
from gateway.process.tail_connection import NoTail, next_lines
from gateway.process.tail_limits import PACKET
from gateway.system import plain_json, private_socket, regular_file
from gateway.system.process_socket import NoAnswer as NoReport
from gateway.system.running import TIMEOUT, NoAnswer

ROOT: Final = "/api/v1"
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of an answer."""
PIECE: Final = 1 << 16
HERE: Final = "unix:"
"""What a URL begins with that is the path of a Unix socket."""
SLOWEST: Final = 20.0
"""Seconds for an answer that comes byte by byte, beyond those for each part of it."""
OTHER: Final = " is not the admin API of a gateway of this version"
LONGEST_TOKEN: Final = 4096
SILENCE: Final = 30.0
"""Seconds without a byte after which requests are not followed any more; the gateway sends one each second."""
AWAKES: Final = 20.0
"""Seconds for an answer at a Unix socket: the gateway loads what HTTP needs when it is asked for the first time."""
COMES_BACK: Final = 10.0
"""Seconds for which a gateway that has ended may come back, as it does in an upgrade."""

_TARGETS: Final = {"drain", "ready", "maintenance", "forget"}
_SITES: Final = {"evacuate-site", "readmit-site"}
_MOVES: Final = {"drain": "evacuate", "standby": "standby", "join": "join"}
"""What the heartbeat process is told, and what the API calls it."""


class NotUsable(ValueError):
    """The URL, or a file for it, cannot be used; the text says why."""


@dataclass(frozen=True)
class Access:
    """Where the API is, and how the caller is known there."""

    url: str
    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def path(self) -> Path | None:
        """The Unix socket; None: it is over TCP."""
        return Path(self.url.removeprefix(HERE)) if self.url.startswith(HERE) else None

    @cached_property
    def place(self) -> tuple[str, str, int]:
        """Scheme, host and port. Raises NotUsable."""
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1 or parts.path.strip("/"):
            raise NotUsable(
                f"{self.url} is not the URL of an admin listener, such as https://gw1.example.com:8900 or "
                "unix:/run/gateway/api.sock"
            )
        if parts.username is not None:
            raise NotUsable("a URL with a name or password: give the token in a file (--token-file)")
        return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)

    @property
    def exposed(self) -> bool:
        """Whether a token would cross the network unencrypted. Raises NotUsable."""
        if self.path is not None:
            return False
        scheme, host, _ = self.place
        with suppress(ValueError):
            return scheme == "http" and not ip_address(host).is_loopback
        return scheme == "http" and host != "localhost"

    @cached_property
    def fields(self) -> dict[str, str]:
        """The header fields that say who asks. Raises NotUsable."""
        if self.token_file is None:
            return {}
        try:
            content, status = regular_file.read(self.token_file, LONGEST_TOKEN)
        except OSError as error:
            raise NotUsable(f"cannot read {self.token_file}: {(error.strerror or str(error)).lower()}") from None
        if status.st_mode & 0o077:
            raise NotUsable(f"other users can read {self.token_file}; run: chmod 600 {self.token_file}")
        try:
            return {"Authorization": f"Bearer {content.decode('ascii').strip()}"}
        except UnicodeDecodeError:
            raise NotUsable(f"{self.token_file} is not a token") from None

    def connect(self, seconds: float) -> http.client.HTTPConnection:
        """A connection that is not open yet. Raises NotUsable."""
        if self.path is not None:
            return _UnixConnection(self.path, seconds)
        scheme, host, port = self.place
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=seconds)
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise NotUsable(f"cannot use the certificates for {self.url}: {error}") from None
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)


class _UnixConnection(http.client.HTTPConnection):
    """To a socket at which root, this user, or the owner of its directory listens."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = private_socket.connect(self._path, float(self.timeout or TIMEOUT))


class _Bound:
    """Ends a connection after some seconds: its own timeout begins anew with each byte."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float) -> None:
        self.reason = ""
        """Why it has been ended, once it has."""
        self.sockets: list[socket.socket] = []
        """Those to end; the connection forgets its own once an answer has begun."""
        self._connection = connection
        self._seconds = seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.reason = f"not all of it within {self._seconds:g} s"
        for sock in (*self.sockets, self._connection.sock):
            if sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS, too: nothing is said to the other side


def _no_password() -> str:
    raise ValueError("the key is encrypted")


@dataclass
class Remote(Gateway):
    """The gateway whose API is there. Raises NoAnswer where it does not answer, or refuses to."""

    access: Access
    _about: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.access.url

    @property
    def node(self) -> str:
        """The name of the node."""
        return str(self.order("about", TIMEOUT)["node"])

    @property
    def site(self) -> str:
        """Where it is, in the place of the path of its site file."""
        return self.access.url

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float = TIMEOUT) -> Any:
        """The answer to a request; "error" is in one that the gateway refuses. Raises NoAnswer."""
        text = None if body is None else json.dumps(body).encode()
        seconds = seconds if self.access.path is None else max(seconds, AWAKES)
        fields = {**self.access.fields, **({} if body is None else {"Content-Type": "application/json"})}
        with closing(self.access.connect(seconds)) as connection, _Bound(connection, seconds + SLOWEST) as bound:
            try:
                connection.connect()
                bound.sockets.append(connection.sock)
                connection.request(method, ROOT + path, text, fields)
                response = connection.getresponse()
                said = _read(response)
            except (OSError, http.client.HTTPException) as error:
                raise NoAnswer(f"no answer from {self.access.url}: {bound.reason or reason(error)}") from None
        if bound.reason:  # of a body, http.client returns what there is
            raise NoAnswer(f"no answer from {self.access.url}: {bound.reason}")
        return _parsed(self.access.url, response.status, said)

    def answer(self, who: str, command: str = "status") -> dict[str, Any]:
        """What control or the heartbeat process reports. Raises NoReport."""
        try:
            if command != "status":
                found = self.call("POST", f"/{_MOVES[command]}", {}, 2 * TIMEOUT)
            else:
                found = self.call("GET", "/status")["gateway" if who == "control" else "cluster"]
        except (NoAnswer, KeyError, TypeError) as error:
            raise NoReport(str(error)) from None
        if found is None:
            raise NoReport("this gateway has no cluster, or its heartbeat process does not respond")
        if "error" in found:
            raise NoReport(str(found["error"]))
        return dict(found)

    def order(self, what: str, seconds: float = TIMEOUT) -> dict[str, Any]:
        """As the supervisor answers on its socket. Raises NoAnswer."""
        word, _, argument = what.partition(" ")
        if word == "about":
            return self._describe()
        if word == "reload":
            found = self.call("POST", "/reload", {}, seconds)
            if found is None or not ("error" in found or "version" in found):
                raise NoAnswer(f"{self.access.url}{OTHER}")
            if found.get("problems") is not None:
                kept = {"version": found["version"], "history": found.get("history")}
                return {"accepted": False, **kept, "problems": found["problems"]}
            return found if "error" in found else {"accepted": True, "problems": "", **found}
        if word in _TARGETS or word == "weight":
            return self._in_force(word, _body(word, argument))
        if word in _SITES:
            return self._in_force(word, {"site": argument})
        raise NoAnswer(f"`gateway {word}` works on the gateway's own machine only")

    def _in_force(self, word: str, body: dict[str, Any]) -> dict[str, Any]:
        """Set something over the site file: what the API answers is in force already."""
        found = self.call("POST", f"/{word}", body, 3 * TIMEOUT)
        if found is not None and "error" in found:
            return {"error": found["error"]}
        return {"serial": 0, "problem": (found or {}).get("problem", "")}

    def _describe(self) -> dict[str, Any]:
        """What a supervisor says of itself."""
        if not self._about:
            found = self.call("GET", "/status")
            try:
                gateway, tree = found["gateway"], found["gateway"]["tree"]
                self._about = {
                    "program": gateway["program"],
                    "site": self.access.url,
                    "version": gateway["version"],
                    "node": gateway["node"],
                    "cluster": gateway["cluster"],
                    "state": tree["state"],
                    "last_reload": tree["last_reload"],
                }
            except (KeyError, TypeError, AttributeError):
                raise NoAnswer(f"{self.access.url}{OTHER}") from None
        return self._about

    def again(self) -> "Remote":
        """The one that answers there by now."""
        return self

    def follow(self, wanted: Wanted) -> "RemoteTail":
        """Follow requests. Raises NoTail."""
        return RemoteTail(self.access, wanted)


def _read(response: http.client.HTTPResponse) -> bytes:
    """The body of an answer. Raises OSError if it is too long."""
    said = bytearray()
    with response:
        while part := response.read1(PIECE):
            said += part
            if len(said) > LARGEST:
                raise OSError(errno.EMSGSIZE, f"its answer is longer than {LARGEST} bytes")
    return bytes(said)


def _body(word: str, argument: str) -> dict[str, Any]:
    from gateway.config.overrides import NODE  # noqa: PLC0415

    target, _, weight = argument.partition(" ")
    if word == "weight":
        return {"target": target, "weight": int(weight)}
    return {"node": True} if target == NODE else {"target": target}


def _parsed(url: str, status: int, said: bytes) -> Any:
    """The value in an answer. Raises NoAnswer if it is none of the API, or says that the caller may not have it."""
    why = "this is not the admin API of a gateway"
    with suppress(ValueError):
        found = plain_json.parse(said)
        if status in {200, 409}:
            if isinstance(found, dict | None):
                return found
            raise NoAnswer(f"{url}{OTHER}")
        if isinstance(found, dict):
            why = str(found.get("error", why))
    raise NoAnswer(f"{url} says {status}: {why}")


def reason(error: Exception) -> str:
    """Why there is no answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message} (--ca names the authority)"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "this is not HTTP" if isinstance(error, http.client.HTTPException) else str(error)


class _Refused(NoTail):
    """The gateway is there, and refuses this client: another try would be refused as well."""


class RemoteTail:
    """A tail that a gateway sends over HTTP, with the methods of TailConnection.

    A thread reads it and writes packets to a pair of sockets. After the end of the gateway it looks for one that comes
    back at the same place.
    """

    def __init__(self, access: Access, wanted: Wanted) -> None:
        """Begin it. Raises NoTail."""
        self.successor: Path | None = None
        self._access = access
        self._path = f"{ROOT}/logs?{urlencode(list(_query(wanted)))}"
        self._connection, response = self._begin()
        self._packets, self._writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._packets.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET)
        threading.Thread(target=self._pass_on, args=(response,), daemon=True).start()

    def _begin(self) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._access.connect(SILENCE)
        status = 0
        try:
            connection.request("GET", self._path, headers=self._access.fields)
            response = connection.getresponse()
            status = response.status
            if status == 200:
                return connection, response
            _parsed(self._access.url, status, _read(response))
            raise NoTail(f"{self._access.url} does not follow requests")
        except NoAnswer as error:
            connection.close()
            raise (_Refused if 400 <= status < 500 else NoTail)(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoTail(str(error) if isinstance(error, NoTail) else reason(error)) from None

    def _pass_on(self, response: http.client.HTTPResponse) -> None:
        with self._writing, suppress(OSError):  # the reader has gone
            while True:
                for line in _lines(response):
                    self._writing.send(line)
                self._connection.close()
                response = self._again()

    def _again(self) -> http.client.HTTPResponse:
        """The same from the gateway that has come back. Raises NoTail if none has, or if it refuses."""
        end = time.monotonic() + COMES_BACK
        while True:
            try:
                self._connection, response = self._begin()
            except NoTail as error:
                if time.monotonic() > end or isinstance(error, _Refused):
                    raise
                time.sleep(0.2)
            else:
                return response

    @property
    def sockets(self) -> list[socket.socket]:
        """Ready for reading when `read` has something to do."""
        return [self._packets]

    def read(self) -> list[dict[str, Any]] | None:
        """The next lines, an empty list if there are none yet; None: the gateway has ended."""
        return next_lines(self._packets)

    def close(self) -> None:
        """End it."""
        self._packets.close()
        if (sock := self._connection.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _query(wanted: Wanted) -> Iterator[tuple[str, str]]:
    if wanted.when is not None:
        yield "when", wanted.when.text
    yield from (("outcome", name) for name in sorted(wanted.outcomes))
    if wanted.request_id:
        yield "id", wanted.request_id
    if wanted.steps:
        yield "steps", "true"
    if wanted.most:
        yield "most", str(wanted.most)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The data of each event (HTML, section 9.2), until the gateway ends or is silent."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        while line := response.readline(PACKET):
            if line.startswith(b"data: "):
                yield line[6:].strip()
