"""The gateways of a cluster tell each other their certificates, and the challenges that an authority may check now.

They connect to each other over TCP, at `cluster.listen`. Each connection has a key of its own, from a key exchange
(X25519) and the key of the cluster: who does not have that can neither read nor write, what was recorded cannot be sent
again, and a cluster key that is lost does not open what was recorded before (as Noise's NNpsk0 does). Then each side
sends one message: who it is, the challenges that it has made, its state's digest; and then its state, if the other's
digest differs.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gateway.acme.authority import Proof
from gateway.acme.state import State, Unusable, as_json, digest, parsed
from gateway.load.refusals import Refusals
from gateway.secrets.keys import derive
from gateway.system import plain_json

TIMEOUT: Final = 5.0
"""Seconds for an exchange,"""
STATE_BYTES: Final = 32 * 1024 * 1024
"""bytes of a state,"""
HELLO_BYTES: Final = 256 * 1024
ACK_BYTES: Final = 64
"""and of a message before it."""
MOST: Final = 32
"""Connections of others at once,"""
MOST_OF_ONE: Final = 4
"""and of one address."""
PROOFS: Final = 256
"""Challenges of one gateway."""
KEEPS: Final = 15.0
"""Seconds for which a gateway that says nothing more counts as there, and its challenges are answered."""
_KEY: Final = 32

log = logging.getLogger("gateway.acme")


class Refused(Exception):
    """The other side does not have the cluster's key, or sends what is not a message."""


class _Stream:
    """A connection under a key of its own. `calls`: this side has made it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, calls: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._calls = calls
        self._sent = self._heard = 0
        self._to = self._of = ChaCha20Poly1305(bytes(_KEY))

    async def agree(self, secret: bytes) -> None:
        """Exchange keys. Raises OSError, IncompleteReadError, Refused."""
        own = X25519PrivateKey.generate()
        ours = own.public_key().public_bytes_raw()
        self._writer.write(ours)
        theirs = await self._reader.readexactly(_KEY)
        try:
            shared = own.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError:
            raise Refused("its half of a key cannot be used") from None
        first, second = (ours, theirs) if self._calls else (theirs, ours)
        keys = derive(secret + shared, b"ACME between gateways" + first + second, 2 * _KEY)
        halves = ChaCha20Poly1305(keys[:_KEY]), ChaCha20Poly1305(keys[_KEY:])
        self._to, self._of = halves if self._calls else halves[::-1]

    async def send(self, text: bytes) -> None:
        """Send a message."""
        sealed = self._to.encrypt(self._sent.to_bytes(12), text, None)
        self._sent += 1
        self._writer.write(len(sealed).to_bytes(4) + sealed)
        await self._writer.drain()

    async def receive(self, most: int) -> bytes:
        """The next message. Raises OSError, IncompleteReadError, Refused."""
        length = int.from_bytes(await self._reader.readexactly(4))
        if length > most:
            raise Refused("its message is too long")
        sealed = await self._reader.readexactly(length)
        try:
            text = self._of.decrypt(self._heard.to_bytes(12), sealed, None)
        except InvalidTag:
            raise Refused("it does not have the key of the cluster") from None
        self._heard += 1
        return text


@dataclass(slots=True)
class Heard:
    """What another gateway said last."""

    at: float
    """In seconds of the loop's clock."""
    proofs: tuple[Proof, ...]


class Gateways:
    """Exchanges in the running loop. `state` is this gateway's now; `learn` takes that of another."""

    def __init__(self, state: Callable[[], State], learn: Callable[[State], None]) -> None:
        self._state = state
        self._learn = learn
        self._node = ""
        self._others: dict[str, tuple[str, int]] = {}
        self._secret = b""
        self._heard: dict[str, Heard] = {}
        self._silent: set[str] = set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._of: Counter[str] = Counter()
        self._refusals = Refusals("ACME exchange", log)
        self.refused: Counter[str] = self._refusals.counts
        self.proofs: tuple[Proof, ...] = ()
        """The challenges of this gateway."""
        self.changed: Callable[[], None] = lambda: None
        """Called when the challenges of another have changed."""

    def apply(self, node: str, others: Mapping[str, tuple[str, int]], key: bytes) -> None:
        """Know the other gateways by name, where each listens, and the key of the cluster."""
        self._node, self._others = node, dict(others)
        self._secret = derive(key, b"ACME of a cluster") if others else b""
        self._heard = {name: heard for name, heard in self._heard.items() if name in others}

    async def listen(self, sock: Any) -> None:
        """Take connections at a listening socket."""
        self.close()
        self._server = await asyncio.start_server(self._accept, sock=sock)

    def close(self) -> None:
        """Take no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All gateways of the cluster."""
        return (self._node, *self._others)

    def alive(self) -> tuple[str, ...]:
        """Those that were heard lately, and this one."""
        now = asyncio.get_running_loop().time()
        return (self._node, *(name for name, heard in self._heard.items() if now - heard.at < KEEPS))

    def all_proofs(self) -> list[Proof]:
        """The challenges of all."""
        alive = self.alive()
        return [
            *self.proofs,
            *(proof for name, heard in self._heard.items() if name in alive for proof in heard.proofs),
        ]

    async def tell(self) -> None:
        """Exchange with all others now; each that does not answer is named in the log, once."""
        await asyncio.gather(*(self._call(name, *place) for name, place in self._others.items()))

    async def _call(self, name: str, host: str, port: int) -> None:
        writer = None
        try:
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await asyncio.open_connection(host, port)
                await self._exchange(_Stream(reader, writer, calls=True), name)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, Refused) as error:
            if name not in self._silent:
                self._silent.add(name)
                log.warning("acme: gateway %s does not answer at %s:%d: %s", name, host, port, str(error) or "timeout")
        else:
            if name in self._silent:
                self._silent.discard(name)
                log.info("acme: gateway %s answers again", name)
        finally:
            if writer is not None:
                writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        source = str((writer.get_extra_info("peername") or ("",))[0])
        if task is None or not self._secret or len(self._connections) >= MOST or self._of[source] >= MOST_OF_ONE:
            writer.close()
            return
        self._connections.add(task)
        self._of[source] += 1
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._exchange(_Stream(reader, writer, calls=False), None)
        except Refused as error:
            self._refusals.note(str(error), str(error), source)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(task)
            self._of[source] -= 1
            if not self._of[source]:
                del self._of[source]
            writer.close()

    async def _exchange(self, stream: _Stream, name: str | None) -> None:
        """`name`: of the gateway that was called. Raises as _Stream."""
        await stream.agree(self._secret)
        own = self._state()
        said = {"node": self._node, "state": digest(own), "proofs": [asdict(proof) for proof in self.proofs]}
        if name is not None:  # who calls speaks first: the other shows that it has the key by its answer
            await stream.send(json.dumps(said).encode())
        node, theirs, proofs = _hello(await stream.receive(HELLO_BYTES))
        if node not in self._others or (name is not None and node != name):
            raise Refused("it is another gateway than it should be")
        if name is None:
            await stream.send(json.dumps(said).encode())
        before = self._heard.get(node)
        self._heard[node] = Heard(asyncio.get_running_loop().time(), proofs)
        if before is None or before.proofs != proofs:
            self.changed()
        if theirs == said["state"]:
            if name is not None:
                await stream.receive(ACK_BYTES)  # it has taken the challenges
            else:
                await stream.send(b"")
            return
        if name is not None:
            await stream.send(as_json(own))
        try:
            self._learn(parsed(await stream.receive(STATE_BYTES)))
        except Unusable as error:
            raise Refused(f"its state cannot be used: {error}") from None
        if name is None:
            await stream.send(as_json(own))


def _hello(text: bytes) -> tuple[str, str, tuple[Proof, ...]]:
    """A gateway's name, the digest of its state, and its challenges. Raises Refused."""
    try:
        match plain_json.parse(text):
            case {"node": str(node), "state": str(state), "proofs": list(proofs)} if len(proofs) <= PROOFS:
                found = [(one["key"], one["text"], one["cert"]) for one in proofs]
                if all(isinstance(part, str) for one in found for part in one):
                    return node, state, tuple(Proof(*one) for one in found)
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused("its message is not of this version")
