"""What a site file wants of authorities, by name of a certificate. Pure."""

from dataclasses import dataclass
from hashlib import sha256

from gateway.config.acme import Acme
from gateway.config.files import SYSTEM_CAS
from gateway.config.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate: of what kind, and from which authority."""

    name: str
    model: Acme
    cas: bytes
    """PEM: by what the authority's own servers are verified."""

    @property
    def kind(self) -> str:
        """What makes a certificate another one."""
        return _short(self.model.directory, self.model.key, self.model.profile or "")

    @property
    def way(self) -> str:
        """What can make an order succeed that failed before, or fail."""
        model = self.model
        return _short(model.directory, model.staging, model.challenge, model.key, model.profile or "")

    @property
    def directories(self) -> frozenset[str]:
        """Where it may be ordered."""
        return frozenset(filter(None, (self.model.directory, self.model.staging)))


def of(snapshot: Snapshot) -> dict[str, Wanted]:
    """All certificates by name, in the order of the site file."""
    found: dict[str, Wanted] = {}
    for frontend in snapshot.site.frontends:
        model = frontend.tls.acme if frontend.tls is not None else None
        for name in model.names if model is not None else ():
            if model is not None and name not in found:
                found[name] = Wanted(name, model, snapshot.files[model.ca or SYSTEM_CAS])
    return found


def _short(*texts: str) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()[:16]
