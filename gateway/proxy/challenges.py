"""What certificate authorities may check now: the pending challenges of this gateway and of the others of its cluster.

The acme process publishes them in its bulletin, which is read again only when it has changed.
"""

import logging
from typing import Any, Final

from gateway.process.bulletin import Bulletin
from gateway.proxy.tls import Identity
from gateway.secrets.exported_key import export

LONGEST: Final = 1024
"""Bytes of a token, and of a name; those of authorities have a fraction."""

log = logging.getLogger(__name__)


class Challenges:
    """Answers from the bulletin of the acme process."""

    def __init__(self, bulletin: Bulletin) -> None:
        self._bulletin = bulletin
        self._stamp = b""
        self._tokens: dict[str, str] = {}
        self._proofs: dict[str, dict[str, str]] = {}
        self._identities: dict[str, Identity] = {}

    def response(self, token: bytes) -> bytes | None:
        """The response to an HTTP-01 challenge (RFC 8555 section 8.3); None: no such token is pending."""
        self._look()
        found = self._tokens.get(_text(token))
        return found.encode() if found is not None else None

    def certificate(self, name: bytes) -> Identity | None:
        """The certificate for a TLS-ALPN-01 challenge (RFC 8737 section 3); None: none is pending for the name."""
        self._look()
        name_text = _text(name).lower()
        found = self._proofs.get(name_text)
        if found is None:
            return None
        if name_text not in self._identities:
            try:
                self._identities[name_text] = Identity(found["cert"].encode(), export(found["key"].encode()), (), "")
            except (KeyError, ValueError) as error:
                log.error("cannot answer a certificate authority for %s: %s", name_text, error)
                return None
        return self._identities[name_text]

    def _look(self) -> None:
        stamp = self._bulletin.stamp()
        if stamp == self._stamp:
            return
        said = self._bulletin.read() or {}
        self._stamp = stamp
        self._tokens, self._identities = _strings(said.get("tokens")), {}
        proofs = said.get("proofs")
        self._proofs = {}
        if isinstance(proofs, dict):
            self._proofs = {name: _strings(proof) for name, proof in proofs.items()}


def _strings(said: Any) -> dict[str, str]:
    """What is text in a mapping; another process wrote it."""
    if not isinstance(said, dict):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, str)}


def _text(name: bytes) -> str:
    return name[:LONGEST].decode("ascii", "replace")
