"""The `acme:` part of `tls:`: certificates that the gateway gets and renews by itself (RFC 8555)."""

import base64
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.config.fields import File, Given, Model, Name, OneOrMany, Some, Text, text
from gateway.config.problem import Fault, Loc

MOST: Final = 200
"""Certificates of a site file."""
MOST_NAMES: Final = 100
"""Names of one certificate, as at Let's Encrypt (letsencrypt.org/docs/rate-limits)."""
DIRECTORY: Final = "acme"
"""In `state`: where certificates and accounts are kept."""
_LABELS: Final = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")
_STAGING: Final = {
    "https://acme-v02.api.letsencrypt.org/directory": "https://acme-staging-v02.api.letsencrypt.org/directory"
}
"""Directories to try an order at first, of authorities whose directories are known."""


def _name(value: object) -> str:
    name = text(value, "a host name or an IP address").lower().removesuffix(".")
    try:
        return ip_address(name).compressed
    except ValueError:
        pass
    if name.startswith("*."):
        raise ValueError(
            f"{name}: an authority gives wildcards by DNS-01 only, which the gateway does not speak: write each name, "
            "or have another program renew the certificate and name its directory in certificates"
        )
    if not name.isascii():
        raise ValueError("write an internationalized host name in its xn-- form")
    if not _LABELS.fullmatch(name) or name.replace(".", "").isdigit():
        raise ValueError(f"{name} is not a name that an authority certifies: expected www.example.com or an IP address")
    return name


def _url(value: object) -> str:
    url = text(value, "the URL of a directory")
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError(f"{url} is not the URL of a directory: expected https://HOST/PATH")
    return url


def _staging(value: object) -> object:
    return "" if value is False else _url(value)


AcmeName: TypeAlias = Annotated[
    str,
    BeforeValidator(_name),
    WithJsonSchema({"type": "string", "examples": ["www.example.com", "203.0.113.5"]}),
]
AcmeNames: TypeAlias = Annotated[tuple[AcmeName, ...], OneOrMany()]
"""Of one certificate."""
DirectoryUrl: TypeAlias = Annotated[
    str, BeforeValidator(_url), WithJsonSchema({"type": "string", "pattern": "^https://"})
]


class ExternalAccount(Model):
    """An account that was made at the authority beforehand, to which the gateway binds its own (RFC 8555 section
    7.3.4).
    """

    id: Text = Field(description="Key identifier that the authority gave.")
    key_file: File = Field(
        description="Key (HMAC) that it gave with that, in base64url; only its owner may read the file."
    )


class Acme(Model):
    """Certificates from an authority by ACME."""

    directory: DirectoryUrl = Field(
        description="URL of the authority's directory; to name it is to agree to the authority's terms of service."
    )
    names: Annotated[tuple[AcmeNames, ...], OneOrMany(), Some()] = Field(
        description="Host names and IP addresses; each gets a certificate of its own, and a list of them within the "
        "list one for all of these."
    )
    email: Annotated[Text | None, Given()] = Field(
        None, description="Where the authority writes about problems. Default: it does not."
    )
    challenge: Literal["http-01", "tls-alpn-01"] = Field(
        "http-01", description="How the authority checks a name: at its port 80, or at its port 443."
    )
    external_account: Annotated[ExternalAccount | None, Given()] = Field(
        None, description="Account at an authority that takes orders of known customers only. Default: none."
    )
    key: Literal["ecdsa", "rsa"] = Field("ecdsa", description="Kind of the certificates' keys: P-256, or 2048 bits.")
    profile: Annotated[Name | None, Given()] = Field(
        None, description="Kind of certificate, such as shortlived. Default: the authority's."
    )
    ca: Annotated[File | None, Given()] = Field(
        None, description="CAs that the authority's own servers are verified by. Default: this machine's."
    )
    staging: Annotated[
        str,
        BeforeValidator(_staging),
        WithJsonSchema({"anyOf": [{"const": False}, {"type": "string", "pattern": "^https://"}]}),
    ] = Field(
        default_factory=lambda data: _STAGING.get(str(data.get("directory")), ""),
        description="Directory where an order is tried first, if it was never filled or has failed; false: none. "
        "Default: Let's Encrypt's for Let's Encrypt.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Acme":
        seen: set[str] = set()
        for i, names in enumerate(self.names):
            if len(names) > MOST_NAMES:
                raise Fault(f"at most {MOST_NAMES} names in a certificate", "names", i)
            for j, name in enumerate(names):
                if name in seen:
                    raise Fault(f"{name} is there twice", *self.place_of(i, j))
                seen.add(name)
        if self.email is not None and ("@" not in self.email or not self.email.isprintable() or " " in self.email):
            raise Fault("expected an address such as hostmaster@example.com", "email")
        if self.staging == self.directory:
            raise Fault("this is directory itself: an order that fails there counts", "staging")
        return self

    def place_of(self, certificate: int, name: int) -> Loc:
        """Where a name of a certificate is."""
        return ("names", certificate, *((name,) if len(self.names[certificate]) > 1 else ()))


def external_key(content: bytes) -> str:
    """The key of an external account, in base64url. Raises ValueError."""
    key = content.decode("ascii", "replace").strip().rstrip("=")
    try:
        base64.b64decode(key + "=" * (-len(key) % 4), b"-_", validate=True)
    except ValueError:
        raise ValueError("not the key of an external account: expected base64url, as the authority shows it") from None
    return key


def place(state: Path) -> Path:
    """The directory of certificates and accounts."""
    return state / DIRECTORY
