"""One authority, asked by the `acme` package. Everything here blocks, and each answer is bounded in size and time."""

import datetime as dt
import json
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from josepy import json_util, jwa, jwk
from requests.adapters import HTTPAdapter

from gateway import __version__
from gateway.acme.policy import Kind, Window
from gateway.acme.state import PEM_BYTES, Account
from gateway.acme.wanted import Wanted
from gateway.config.address import is_ip
from gateway.config.certificate import Facts, facts
from gateway.config.problem import Fault
from gateway.secrets.placeholder import general_name, self_signed
from loadagent.printable import printable

TIMEOUT: Final = 20.0
"""Seconds for each part of an answer, and for the connection,"""
ANSWER_BYTES: Final = 1024 * 1024
"""most bytes of an answer,"""
ANSWER_SECONDS: Final = 60.0
"""and most seconds for all of it."""
ORDER_SECONDS: Final = 120.0
"""For an order, from the first challenge on."""
AUTHORIZATIONS: Final = 4
"""For each name of an order; usually there is one."""
TRIES: Final = 4
"""For a request whose nonce the authority no longer takes (RFC 8555 section 6.5)."""
_TOO_SLOW: Final = "the answer is too slow"
_ERROR: Final = 300
"""Characters of what an authority says is wrong."""
_KINDS: Final[dict[str, Kind]] = {
    "rateLimited": "limited",
    "serverInternal": "unreachable",
    "badNonce": "unreachable",
}
"""Of refusals that are not about what was ordered."""
_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""acmeIdentifier (RFC 8737 section 6.1)."""


log = logging.getLogger("gateway.acme")


class Failed(Exception):
    """An order, or a question, failed; the text says why. `wait`: seconds that the authority wants, or 0."""

    def __init__(self, kind: Kind, text: str, wait: float = 0.0) -> None:
        super().__init__(printable(text)[:_ERROR])
        self.kind: Kind = kind
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Proof:
    """What a challenge asks for.

    HTTP-01: `key` is its token, and `text` the response. TLS-ALPN-01: `key` is the name in the handshake, `cert` the
    certificate to show, and `text` the key of that; both PEM.
    """

    key: str
    text: str
    cert: str = ""


Present = Callable[[Proof], None]
"""Makes a proof available at every gateway that the authority may ask."""


@challenges.ChallengeResponse.register
class TlsAlpnResponse(challenges.KeyAuthorizationChallengeResponse):
    """The response to a TLS-ALPN-01 challenge, which the package no longer has."""

    typ = "tls-alpn-01"


@challenges.Challenge.register
class TlsAlpn(challenges.KeyAuthorizationChallenge):
    """A TLS-ALPN-01 challenge (RFC 8737)."""

    response_cls = TlsAlpnResponse
    typ = response_cls.typ

    def validation(self, account_key: jwk.JWK, **_: Any) -> bytes:
        """The SHA-256 of the key authorization, which the certificate has."""
        return sha256(self.key_authorization(account_key).encode()).digest()


class _NewOrder(messages.NewOrder):
    """An order that may say which certificate it replaces (RFC 9773 section 5)."""

    replaces: str = json_util.field("replaces", omitempty=True)


class _Timed(ssl.SSLSocket):
    """Reads no longer than until a time. A timeout for each part leaves an answer of single bytes without an end."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read. Raises TimeoutError."""
        if isinstance(self.context, _Context) and time.monotonic() > self.context.until:
            raise TimeoutError(_TOO_SLOW)
        return super().recv_into(*args, **kwargs)


class _Context(ssl.SSLContext):
    """`until` is when the answer being read must be there, in seconds of the monotonic clock."""

    sslsocket_class = _Timed
    until = float("inf")


class _Bounded(HTTPAdapter):
    """Verifies authorities by given CAs, and reads a bounded answer of each."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> Any:
        """Use the context."""
        return super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002 - requests' signature
        """Keep to the context: requests would add CAs of its own."""
        conn.cert_reqs = "CERT_REQUIRED"
        conn.ca_certs = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read its answer. Raises requests' exceptions."""
        self._context.until = time.monotonic() + ANSWER_SECONDS
        response = super().send(request, *args, **{**kwargs, "stream": True, "timeout": TIMEOUT, "proxies": {}})
        content = bytearray()
        for piece in response.iter_content(16 * 1024):
            content += piece
            if len(content) > ANSWER_BYTES:
                response.close()
                raise requests.exceptions.ContentDecodingError("the answer is too long")
        response._content = bytes(content)  # noqa: SLF001 - as requests itself keeps it
        return response


class _Network(client.ClientNetwork):
    """Asks again with another nonce more often than the package, and notes for how long not to ask at all."""

    wait = 0.0
    """Seconds, as the last answer has it that was a refusal."""

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = super()._send_request(method, url, *args, **kwargs)
        if response.status_code in {429, 503}:
            self.wait = client.ClientV2.retry_after(response, 0).timestamp() - time.time()
        return response

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a signed request."""
        for _ in range(TRIES - 1):
            try:
                return self._post_once(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return self._post_once(*args, **kwargs)


class _Client(client.ClientV2):
    """Adds what the package lacks."""

    def order(self, csr: bytes, names: Sequence[str], profile: str, replaces: str) -> messages.OrderResource:
        """Order a certificate."""
        wanted = [
            messages.Identifier(typ=messages.IDENTIFIER_IP if is_ip(name) else messages.IDENTIFIER_FQDN, value=name)
            for name in names
        ]
        response = self._post(
            self.directory["newOrder"], _NewOrder(identifiers=wanted, profile=profile, replaces=replaces)
        )
        body = messages.Order.from_json(response.json())
        if len(body.authorizations) > AUTHORIZATIONS * len(names):
            text = f"the authority asks for {len(body.authorizations)} authorizations, which is too many"
            raise Failed("refused", text)
        authorizations = [self._authzr_from_response(self._post_as_get(url), uri=url) for url in body.authorizations]
        return messages.OrderResource(
            body=body, uri=response.headers.get("Location"), authorizations=authorizations, csr_pem=csr
        )


class Authority:
    """An authority at a directory, with an account there, which is made if there is none."""

    def __init__(self, url: str, wanted: Wanted, account: Account | None) -> None:
        self._url = url
        self._wanted = wanted
        kept = _account_key(account, url)
        self._own = kept or ec.generate_private_key(ec.SECP256R1())
        self._key = jwk.JWKEC(key=self._own)
        self._account = account if kept is not None else None
        self._network = _Network(self._key, alg=jwa.ES256, user_agent=f"eddie-gateway/{__version__}")
        session = self._network.session
        session.trust_env = False
        session.max_redirects = 3
        session.mount("https://", _Bounded(_context(wanted.cas)))
        session.adapters.pop("http://")

    @property
    def account(self) -> Account | None:
        """The account, once there is one."""
        return self._account

    def order(self, before: str, present: Present) -> str:
        """A new certificate: its key and its chain in PEM. `before`: the one that it replaces, or empty. Raises Failed.

        `present` is called with each proof before the authority is told to look.
        """
        with self._talking():
            return self._order(before, present)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Give what goes wrong meanwhile a name, and close the connection afterwards. Raises Failed."""
        try:
            yield
        except Failed:
            raise
        except Exception as error:  # noqa: BLE001 - the package relies on the form of answers, and raises all kinds
            raise _failure(error, self._network.wait) from None
        finally:
            self._network.session.close()

    def _order(self, before: str, present: Present) -> str:
        names, model = self._wanted.names, self._wanted.model
        connected = self._connect()
        key = _new_key(model.key)
        alternatives = x509.SubjectAlternativeName([general_name(name) for name in names])
        csr = (
            x509.CertificateSigningRequestBuilder(x509.Name([]))
            .add_extension(alternatives, critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = csr.public_bytes(serialization.Encoding.PEM)
        replaces = self._id_of(before) if before and _tells_when(connected.directory) else ""
        try:
            ordered = connected.order(pem, names, model.profile or "", replaces)
        except errors.ConflictError:  # it has been replaced already (RFC 9773 section 5)
            ordered = connected.order(pem, names, model.profile or "", "")
        until = dt.datetime.now() + dt.timedelta(seconds=ORDER_SECONDS)  # noqa: DTZ005 - as the package compares it
        for authorization in ordered.authorizations:
            if authorization.body.status == messages.STATUS_PENDING:
                self._answer(connected, authorization, present)
        ordered = connected.poll_authorizations(ordered, until)
        chain = connected.finalize_order(ordered, until).fullchain_pem
        return _checked(chain, key, names)

    def _answer(self, connected: _Client, authorization: messages.AuthorizationResource, present: Present) -> None:
        wanted = self._wanted.model.challenge
        for body in authorization.body.challenges:
            if body.chall.typ == wanted:
                present(self._proof(body.chall, str(authorization.body.identifier.value)))
                connected.answer_challenge(body, body.chall.response(self._key))
                return
        offered = ", ".join(str(body.chall.typ) for body in authorization.body.challenges)
        raise Failed("refused", f"the authority does not offer {wanted}, but {offered}")

    def _proof(self, challenge: challenges.KeyAuthorizationChallenge, name: str) -> Proof:
        if not isinstance(challenge, TlsAlpn):
            return Proof(challenge.encode("token"), challenge.key_authorization(self._key))
        digest = b"\x04\x20" + challenge.validation(self._key)  # an OCTET STRING of 32 bytes
        cert, key = self_signed((name,), x509.UnrecognizedExtension(_IDENTIFIER, digest))
        # The name of an IP address in a handshake is that of its reverse lookup (RFC 8738 section 6).
        asked = general_name(name).value.reverse_pointer if is_ip(name) else name
        return Proof(asked, key.decode(), cert.decode())

    def suggestion(self, pem: str) -> tuple[Window | None, float]:
        """When to renew a certificate, if the authority says so, and after how many seconds to ask it again.

        Raises Failed.
        """
        with self._talking():
            directory = self._directory()
            if not _tells_when(directory):
                return None, float("inf")
            url = f"{directory['renewalInfo']}/{self._id_of(pem)}"
            response = self._network.get(url, content_type="application/json")
            found = messages.RenewalInfo.from_json(response.json()).suggested_window
            again = client.ClientV2.retry_after(response, 6 * 3600).timestamp() - time.time()
            return Window(found.start.timestamp(), found.end.timestamp()), again

    def _directory(self) -> messages.Directory:
        return client.ClientV2.get_directory(self._url, self._network)

    def _connect(self) -> _Client:
        """The directory, with an account that exists."""
        connected = _Client(self._directory(), self._network)
        if self._account is not None:
            self._network.account = messages.RegistrationResource(uri=self._account.uri, body=messages.Registration())
            try:
                connected.query_registration(self._network.account)
            except messages.Error as error:
                if error.code != "accountDoesNotExist":
                    raise
                self._account = None
        if self._account is None:
            self._network.account = None
            uri = self._register(connected)
            self._account = Account(_pem(self._own), uri, time.time())
        return connected

    def _register(self, connected: _Client) -> str:
        model, binding = self._wanted.model, None
        if model.external_account is not None:
            public, key = self._key.public_key(), self._wanted.external_key
            binding = messages.ExternalAccountBinding.from_data(
                public, model.external_account.id, key, connected.directory
            )
        elif connected.external_account_required():
            text = "the authority takes orders of known customers only: make an account there, and set external_account"
            raise Failed("refused", text)
        new = messages.NewRegistration.from_data(
            email=model.email, terms_of_service_agreed=True, external_account_binding=binding
        )
        try:
            return str(connected.new_account(new).uri)
        except errors.ConflictError as error:
            self._network.account = messages.RegistrationResource(uri=error.location, body=messages.Registration())
            return str(error.location)

    def _id_of(self, pem: str) -> str:
        """The name of a certificate at its authority (RFC 9773 section 4.1)."""
        return client._renewal_info_path_component(x509.load_pem_x509_certificate(pem.encode()))  # noqa: SLF001 - not in its API


def _tells_when(directory: messages.Directory) -> bool:
    """Whether an authority says when to renew (RFC 9773)."""
    try:
        directory["renewalInfo"]
    except KeyError:
        return False
    return True


def described(pem: str) -> Facts:
    """The facts of a certificate. Raises Fault."""
    return facts(pem.encode())


def _context(cas: bytes) -> _Context:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=cas.decode("ascii", "replace"))
    return context


def _account_key(account: Account | None, url: str) -> ec.EllipticCurvePrivateKey | None:
    """The key of the account that is kept; None: there is none, or it is damaged, and another account is to be made."""
    if account is None:
        return None
    try:
        key = serialization.load_pem_private_key(account.key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    log.error("acme: the key that is kept of the account at %s cannot be used; another account is made", url)
    return None


def _new_key(kind: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def _pem(key: CertificateIssuerPrivateKeyTypes) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _checked(chain: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, names: Sequence[str]) -> str:
    """A certificate with its key, if it is the one that was ordered. Raises Failed."""
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
        found = facts(chain.encode())
        certified = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, Fault, x509.ExtensionNotFound):
        raise Failed("refused", "what the authority sent is not a certificate") from None
    if first.public_key() != key.public_key() or not all(general_name(name) in certified for name in names):
        raise Failed("refused", "the authority sent the certificate of another key, or for other names")
    if found.validity.not_after <= time.time():
        raise Failed("refused", "the authority sent a certificate that has expired")
    pem = _pem(key) + chain
    if len(pem) > PEM_BYTES:
        raise Failed("refused", f"the authority sent a chain of more than {PEM_BYTES // 1024} KiB")
    return pem


def _failure(error: Exception, wait: float) -> Failed:
    """`wait`: the seconds that the authority asks for."""
    kind: Kind = "unreachable"
    match error:
        case errors.ValidationError():
            kind, text = "refused", "; ".join(_problem(one) for one in error.failed_authzrs)
        case messages.Error():
            kind, text = _KINDS.get(error.code or "", "refused"), f"the authority refuses: {error.code}: {error.detail}"
        case errors.TimeoutError():
            kind, text = "refused", f"the authority has not decided within {ORDER_SECONDS:g} s"
        case errors.IssuanceError():
            kind, text = "refused", f"the authority does not issue it: {error.error}"
        case requests.exceptions.SSLError():
            text = f"the authority's own certificate is not trusted: {_innermost(error)}; name its CA in ca"
        case requests.RequestException():
            text = f"the authority does not answer: {_innermost(error)}"
        case errors.ClientError():
            text = f"the authority's answer is not as RFC 8555 has it: {error}"
        case _:
            text = f"the authority's answer cannot be used: {type(error).__name__}: {error}"
    return Failed(kind, text, wait)


def _innermost(error: BaseException) -> str:
    """What led to an error of requests, which has it wrapped several times."""
    for _ in range(8):
        first = error.args[0] if error.args else None
        inner = next(
            (one for one in (getattr(error, "reason", None), error.__cause__, first) if isinstance(one, BaseException)),
            None,
        )
        if inner is None:
            break
        error = inner
    return str(getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error).lower()


def _problem(authorization: messages.AuthorizationResource) -> str:
    """Why an authorization failed."""
    found = [one.error for one in authorization.body.challenges if one.error is not None]
    said = "; ".join(f"{error.code}: {error.detail}" for error in found)
    return f"the authority could not validate {authorization.body.identifier.value}: {said or json.dumps('no reason')}"
