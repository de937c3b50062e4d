"""What the gateways of a cluster know of their certificates, as data: it is kept, sent, and merged. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from gateway.acme.policy import Window

PEM_BYTES: Final = 64 * 1024
"""Longest certificate with its chain and key."""
ERROR: Final = 500
"""Characters of an error."""

LAST: Final = 1e12
"""Seconds: no time is further from 1970."""
Seconds: TypeAlias = Annotated[float, Field(ge=-LAST, le=LAST)]
"""Since 1970."""


@dataclass(frozen=True, slots=True)
class Account:
    """At an authority. `key` in PEM; `uri` names the account there; `created` in seconds since 1970."""

    key: str
    uri: str
    created: Seconds


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain after its key, in PEM; `at` is when it came; `kind`: see Wanted.kind."""

    pem: str
    at: Seconds
    kind: str


@dataclass(frozen=True, slots=True)
class Record:
    """How the orders of a name went. Times are in seconds since 1970."""

    changed: Seconds = 0.0
    failures: int = 0
    """In a row,"""
    error: str = ""
    """the last of them,"""
    failed_at: tuple[Seconds, ...] = ()
    """and when an authority refused some in the last hour."""
    next: Seconds = 0.0
    """No try before this."""
    way: str = ""
    """How the last order was made: see Wanted.way."""
    proved: str = ""
    """How one was made that was filled."""
    window: Window | None = None
    """When the authority suggests to renew the present certificate,"""
    ask_at: Seconds = 0.0
    """and when to ask it again."""


@dataclass(frozen=True, slots=True)
class State:
    """Accounts by directory; certificates and records by name."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)

    def record(self, name: str) -> Record:
        """The record of a name."""
        return self.records.get(name, Record())

    def with_record(self, name: str, record: Record) -> "State":
        """The same with another record."""
        return replace(self, records={**self.records, name: record})

    def with_certificate(self, name: str, certificate: Certificate) -> "State":
        """The same with another certificate."""
        return replace(self, certificates={**self.certificates, name: certificate})

    def with_account(self, directory: str, account: Account) -> "State":
        """The same with another account."""
        return replace(self, accounts={**self.accounts, directory: account})

    def merged(self, other: "State") -> "State":
        """What two gateways know together, whichever is asked: the oldest accounts, the newest of all else."""
        return State(
            _merged(self.accounts, other.accounts, lambda one: (-one.created, one.key)),
            _merged(self.certificates, other.certificates, lambda one: (one.at, one.pem)),
            _merged(self.records, other.records, lambda one: (one.changed, one.next, one.error)),
        )

    def of(self, names: frozenset[str], directories: frozenset[str]) -> "State":
        """The part about these names and directories."""
        return State(
            {key: value for key, value in self.accounts.items() if key in directories},
            {key: value for key, value in self.certificates.items() if key in names},
            {key: value for key, value in self.records.items() if key in names},
        )


T = TypeVar("T")


def _merged(ours: Mapping[str, T], theirs: Mapping[str, T], rank: Any) -> dict[str, T]:
    together = dict(ours)
    for key, value in theirs.items():
        if key not in together or rank(value) > rank(together[key]):
            together[key] = value
    return together


class Unusable(ValueError):
    """The text is not such a state; what is wrong with it."""


_STATE: Final = TypeAdapter(State)


def as_json(state: State) -> bytes:
    """The state as text, the same for equal states."""
    accounts, certificates, records = state.accounts, state.certificates, state.records
    ordered = State(dict(sorted(accounts.items())), dict(sorted(certificates.items())), dict(sorted(records.items())))
    return _STATE.dump_json(ordered)


def digest(state: State) -> str:
    """Tells states apart."""
    return sha256(as_json(state)).hexdigest()


def parsed(text: bytes) -> State:
    """The state in a text. Raises Unusable."""
    try:
        state = _STATE.validate_json(text, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Unusable(f"{'.'.join(map(str, first['loc'])) or 'the text'}: {first['msg']}") from None
    if any(len(one.pem) > PEM_BYTES for one in state.certificates.values()):
        raise Unusable(f"a certificate of more than {PEM_BYTES} bytes")
    windows = (one.window for one in state.records.values() if one.window is not None)
    if not all(abs(at) <= LAST for window in windows for at in (window.start, window.end)):
        raise Unusable("a window that no calendar has")
    return state
