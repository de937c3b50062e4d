"""Where clients are, by a MaxMind file, and which sites clients of a place prefer."""

import datetime as dt
import fcntl
import hashlib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.fields import Given, Model, OneOrMany, Text
from gateway.config.file_stamp import Stamp, stamp
from gateway.config.problem import Fault
from gateway.system import regular_file

if TYPE_CHECKING:
    from maxminddb.reader import Reader

MAX_BYTES: Final = 512 << 20
"""Of a MaxMind file."""
EARTH: Final = 6371.0
"""Mean radius in km."""
SAMPLES: Final = tuple(IPv4Address(n << 24 | 0x010203) for n in range(1, 224)) + tuple(
    IPv6Address(n << 112) for n in range(0x2000, 0x3000, 0x40)
)
"""Addresses that are looked up in a file before it is used,"""
RECORDS: Final = 500
"""and so many of its first records are read."""
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_COUNTRY: Final = re.compile("[A-Z]{2}")

Ip: TypeAlias = IPv4Address | IPv6Address
Continent: TypeAlias = Literal["AF", "AN", "AS", "EU", "NA", "OC", "SA"]


def _country(value: str) -> str:
    if not _COUNTRY.fullmatch(value):
        raise ValueError("expected the code of a country in capitals, such as AU (ISO 3166-1)")
    return value


def _point(value: object) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in pair):
        raise ValueError("expected latitude and longitude in degrees, such as [-37.8, 145.0]")
    latitude, longitude = map(float, pair)
    if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):
        raise ValueError("a latitude is from -90 to 90, a longitude from -180 to 180")
    return latitude, longitude


class Place(Model):
    """Clients that prefer a site because of where they are: by country, else by continent, else by distance."""

    countries: Annotated[tuple[Annotated[Text, AfterValidator(_country)], ...], OneOrMany()] = Field(
        (), description="Countries whose clients prefer the site, by their codes (ISO 3166-1): AU, NZ."
    )
    continents: Annotated[tuple[Continent, ...], OneOrMany()] = Field(
        (), description="Continents whose clients do, unless a site has their country."
    )
    at: Annotated[
        Annotated[
            tuple[float, float],
            PlainValidator(_point),
            WithJsonSchema(
                {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "examples": [[-37.8, 145]]}
            ),
        ]
        | None,
        Given(),
    ] = Field(None, description="Latitude and longitude of the site in degrees: other clients prefer the nearest one.")

    @model_validator(mode="after")
    def _something(self) -> "Place":
        if not self.countries and not self.continents and self.at is None:
            raise Fault("expected countries, continents or at")
        return self


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where an address is, as far as it is known."""

    country: str | None = None
    continent: str | None = None
    at: tuple[float, float] | None = None


NOWHERE: Final = Whereabouts()


def whereabouts(record: object) -> Whereabouts:
    """What a record of MaxMind's says of a place; of no other form: nothing."""
    if not isinstance(record, dict):
        return NOWHERE
    country = _code(record, "country", "iso_code") or _code(record, "registered_country", "iso_code")
    location = record.get("location")
    at = (location.get("latitude"), location.get("longitude")) if isinstance(location, dict) else (None, None)
    try:
        point = _point(at)
    except ValueError:
        point = None
    return Whereabouts(country, _code(record, "continent", "code"), point)


def _code(record: dict[str, Any], part: str, key: str) -> str | None:
    inner = record.get(part)
    code = inner.get(key) if isinstance(inner, dict) else None
    return code if isinstance(code, str) else None


def distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Kilometres along a great circle between two points, (latitude, longitude) in degrees (haversine formula)."""
    (a, x), (b, y) = (map(radians, point) for point in (one, other))
    half = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin((y - x) / 2) ** 2
    return 2 * EARTH * asin(min(1.0, sqrt(half)))


class Database:
    """A MaxMind file in sealed memory: a process that may open no files can read it, and nobody can cut it off."""

    def __init__(self, descriptor: int, name: str = "", digest: str = "") -> None:
        self._descriptor = descriptor
        self.name = name
        """Type and date,"""
        self.digest = digest
        """and a digest of the content; of one that has come from another process not known."""
        self._reader: Reader | None = None

    @classmethod
    def of(cls, content: bytes) -> "Database":
        """Check a file's content, and keep it. Raises ValueError, OSError."""
        name = _checked(content)
        descriptor = os.memfd_create("gateway-places", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return cls(descriptor, name, hashlib.sha256(content).hexdigest())

    def __del__(self) -> None:
        self.close_descriptor()

    def fileno(self) -> int:
        """The descriptor of the memory."""
        return self._descriptor

    def close_descriptor(self) -> None:
        """Close it; what was opened by it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open(self) -> None:
        """Map it, for `find`. Raises ValueError, OSError."""
        import maxminddb  # noqa: PLC0415 - most gateways have no such file

        try:
            self._reader = maxminddb.open_database(f"/proc/self/fd/{self._descriptor}")
        except maxminddb.InvalidDatabaseError:
            raise ValueError("a damaged MaxMind file") from None

    def find(self, address: Ip) -> tuple[Whereabouts, int]:
        """Where an address is, and the length of the prefix of all that are there too. Raises ValueError."""
        if self._reader is None:
            self.open()
        assert self._reader is not None  # noqa: S101 - just opened
        return _find(self._reader, address)


def _find(reader: "Reader", address: Ip) -> tuple[Whereabouts, int]:
    if address.version == 6 and reader.metadata().ip_version == 4:
        return NOWHERE, 0
    try:
        record, length = reader.get_with_prefix_len(address)
    except RuntimeError as error:  # InvalidDatabaseError is one
        raise ValueError(str(error)) from None
    return whereabouts(record), length


def _checked(content: bytes) -> str:
    """The type and date of a file, whose records can be read where it was tried. Raises ValueError."""
    # In Python, not in C: the file comes from elsewhere, and this process may be the supervisor.
    from maxminddb.const import MODE_FD  # noqa: PLC0415 - see Database.open
    from maxminddb.errors import InvalidDatabaseError  # noqa: PLC0415
    from maxminddb.reader import Reader  # noqa: PLC0415

    try:
        with Reader(io.BytesIO(content), MODE_FD) as reader:
            about = reader.metadata()
            found = [_find(reader, address)[0] for address in SAMPLES]
            found += [whereabouts(record) for _, record in islice(reader, RECORDS)]
            built = dt.datetime.fromtimestamp(about.build_epoch, dt.UTC)
            kind = str(about.database_type)[:80]
    except InvalidDatabaseError:
        raise ValueError("not a MaxMind file (.mmdb), or a part of one") from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, OSError, RecursionError) as error:
        raise ValueError(f"a damaged MaxMind file: {error}") from None
    if all(place == NOWHERE for place in found):
        raise ValueError(f"{kind} says nothing of countries, continents or locations: use a file such as GeoLite2-City")
    return f"{kind} of {built:%Y-%m-%d}"


def read(path: Path) -> tuple[Database, Stamp]:
    """The MaxMind file at a path, and its stamp. Raises OSError, ValueError."""
    content, status = regular_file.read(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20}MiB")
    return Database.of(content), stamp(status)


def preferred(places: Iterable[tuple[str, Place]], where: Whereabouts) -> list[tuple[str, str]]:
    """The sites for a client, best first, each with the reason; those that the place says nothing of are left out."""
    ranked: list[tuple[int, float, int, str, str]] = []
    for number, (site, place) in enumerate(places):
        km = distance(place.at, where.at) if place.at is not None and where.at is not None else None
        if where.country is not None and where.country in place.countries:
            rank, why = 0, f"country {where.country}"
        elif where.continent is not None and where.continent in place.continents:
            rank, why = 1, f"continent {where.continent}"
        elif km is not None:
            rank, why = 2, f"{km:.0f} km away"
        else:
            continue
        ranked.append((rank, km if km is not None else float("inf"), number, site, why))
    return [(site, why) for *_, site, why in sorted(ranked)]
