"""What a site file wants of authorities, by name of a certificate. Pure."""

from dataclasses import dataclass
from hashlib import sha256

from gateway.config import acme
from gateway.config.acme import Acme
from gateway.config.files import SYSTEM_CAS
from gateway.config.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate: of what kind, and from which authority."""

    names: tuple[str, ...]
    """The first one names the certificate."""
    model: Acme
    cas: bytes
    """PEM: by what the authority's own servers are verified."""
    external_key: str = ""
    """Of the external account, in base64url; empty: there is none."""

    @property
    def name(self) -> str:
        """What the certificate is called."""
        return self.names[0]

    @property
    def called(self) -> str:
        """What the certificate is called where people read."""
        more = len(self.names) - 1
        return self.name if not more else f"{self.name} and {more} more {'name' if more == 1 else 'names'}"

    @property
    def kind(self) -> str:
        """What makes a certificate another one."""
        return _short(self.model.directory, self.model.key, self.model.profile or "", *self.names[1:])

    @property
    def way(self) -> str:
        """What can make an order succeed that failed before, or fail."""
        model = self.model
        account = model.external_account.id if model.external_account is not None else ""
        settings = (model.directory, model.staging, model.challenge, model.key, model.profile or "", account)
        return _short(*settings, self.external_key, *self.names[1:])

    @property
    def directories(self) -> frozenset[str]:
        """Where it may be ordered."""
        return frozenset(filter(None, (self.model.directory, self.model.staging)))


def of(snapshot: Snapshot) -> dict[str, Wanted]:
    """All certificates by name, in the order of the site file."""
    found: dict[str, Wanted] = {}
    for frontend in snapshot.site.frontends:
        model = frontend.tls.acme if frontend.tls is not None else None
        if model is None:
            continue
        account = model.external_account
        key = acme.external_key(snapshot.files[account.key_file]) if account is not None else ""
        for names in model.names:
            if names[0] not in found:
                found[names[0]] = Wanted(names, model, snapshot.files[model.ca or SYSTEM_CAS], key)
    return found


def _short(*texts: str) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()[:16]
