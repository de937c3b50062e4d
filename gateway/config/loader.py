"""Loads a site file: reads and validates it, and collects all problems."""

import gc
import hashlib
import os
import pwd
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from gateway.config import (
    certificate_files,
    consistency,
    environment,
    explain,
    files,
    foreign,
    includes,
    maps,
    places,
    user_files,
)
from gateway.config.apache_rules import Program, Rules
from gateway.config.certificate_files import RefusedFile
from gateway.config.document import Place, SyntaxFault
from gateway.config.file_stamp import Stamps, stamp_of
from gateway.config.includes import Spot, in_order
from gateway.config.map_table import MapFaults
from gateway.config.maps import Tables
from gateway.config.model import Site
from gateway.config.places import Database
from gateway.config.problem import ConfigError, Finding, Loc, Problem, Severity
from gateway.config.resolve import resolve
from gateway.config.saved import Content, SavedSite
from gateway.system import regular_file

MAX_BYTES: Final = 16 * 1024 * 1024

Endpoint: TypeAlias = tuple[str, int] | str
"""Where to connect: (IP address, port), or the path of a Unix socket."""

Resolve: TypeAlias = Callable[[Site, Collection[str]], Mapping[str, str | OSError]]
"""Resolves each host name of a site to an IP address, or to the error."""

_ITEMS: Final = frozenset({"frontends", "backends", "maps", "routes", "pages", "tests"})
"""Parts of the file with independent items: a wrong item does not prevent checks of the others."""

_ROUNDS: Final = 3
"""Levels of the model at which removing a wrong key can make the enclosing mapping wrong."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid site file."""

    path: Path
    site: Site
    files: Mapping[Path, bytes]
    """Contents of every file the site names, except maps, and certificates and their private keys (see vault.py)."""
    resolved: Mapping[tuple[str, str], Endpoint]
    """(backend, server) → its address; servers of dns: entries are added by a Snapshot."""
    warnings: tuple[Problem, ...]
    """Settings that are allowed but probably a mistake, in file order."""
    tests_at: tuple[Spot, ...] = ()
    """Where each of the site's tests is."""
    digest: str = ""
    """Digest of everything that affects decisions: files with equal digests treat every request alike."""
    rules: Mapping[Path, Rules] = field(default_factory=dict)
    """Apache rules, by file."""
    pairs_at: Mapping[tuple[int, str], Spot] = field(default_factory=dict)
    """Where the parts are of each of certificate_files.sources."""
    source: SavedSite = field(default_factory=SavedSite)
    """What it was loaded from."""
    routes_at: tuple[str, ...] = ()
    """File and line of each route."""
    included: Mapping[Path, bytes] = field(default_factory=dict)
    """The contents of the files that the site file includes."""
    maps: Tables = field(default_factory=dict)
    map_stamps: Stamps = field(default_factory=dict)
    """Of the maps' files as they were read; none of a file that was not read, but saved."""
    database: Database | None = None
    """Where clients are: the MaxMind file. Its stamp is among `map_stamps`."""
    user_stamps: Stamps = field(default_factory=dict)
    """Of the files of users, before they were read."""

    @property
    def programs(self) -> frozenset[Program]:
        """The programs that answer keys of maps."""
        return frozenset[Program]().union(*(rules.programs for rules in self.rules.values()))


def ask_here(_: Site, hosts: Collection[str]) -> Mapping[str, str | OSError]:
    """Query the system's resolver, in this process: not for a process that is root."""
    return resolve(hosts)


def load(
    path: Path,
    ask: Resolve = ask_here,
    *,
    certificates: bool = True,
    saved: SavedSite | None = None,
    text: str | None = None,
    offline: bool = False,
) -> Loaded:
    """Load the site file at `path`; `ask` resolves host names, given the site's user.

    Without `certificates`, neither they nor their keys are read. `saved` is loaded instead of the content of `path`;
    `text` too, but with the other files as they are now.
    `offline`: keys, certificates, logs and a user that are not on this machine are notes among the warnings.

    Raises ConfigError with every problem of the file, in file order.
    """
    collecting = gc.isenabled()
    # For a large file, garbage collection took half of the time, although all data is in use.
    gc.disable()
    try:
        if text is None:
            text = saved.text if saved is not None else text_of(path)
        return _load(path, text, ask, saved, certificates=certificates, offline=offline)
    finally:
        if collecting:
            gc.enable()


def _load(path: Path, text: str, ask: Resolve, saved: SavedSite | None, *, certificates: bool, offline: bool) -> Loaded:
    try:
        composed = includes.compose(path, text, saved)
    except SyntaxFault as fault:
        raise ConfigError([_problem(path, fault.place, str(fault))]) from None
    problems, data = list(composed.problems), composed.data
    if not isinstance(data, dict):
        expected = "expected a mapping: frontends, backends, routes …"
        raise ConfigError([composed.problem(Finding((), expected + foreign.file_of(text)))])
    variables, unset = environment.fill(data, os.environ | dict(saved.variables) if saved is not None else os.environ)
    problems += map(composed.problem, unset)
    if unset or composed.broken:
        raise ConfigError(in_order(problems, path))  # what else is wrong may only follow from it
    context = {"directory": path.absolute().parent}
    findings = list(consistency.gaps(data))
    origin: dict[str, list[int]] = {}
    try:
        site = Site.model_validate(data, context=context)
    except ValidationError as error:
        findings += explain.findings(error)
        site, origin = _rest(data, error, context)
    seen = files.read(site, saved or SavedSite(), certificates=certificates, offline=offline)
    unknown = [] if offline else list(_user(site))
    resolved, unresolved = ({}, []) if unknown else _resolve(site, ask)
    names = data["backends"] if isinstance(data.get("backends"), dict) else {}
    mapped = data["maps"] if isinstance(data.get("maps"), dict) else {}
    conflicts = consistency.conflicts(site, names, _sites(data), mapped, _frontends(data))
    together = [*seen.findings, *unresolved, *unknown, *conflicts]
    findings += [_restored(finding, origin) for finding in together]
    problems += map(composed.problem, findings)
    if problems:
        raise ConfigError(in_order(problems, path))
    tests_at = tuple(composed.spot(Finding(("tests", i), "")) for i in range(len(site.tests)))
    routes_at = tuple(composed.spot(Finding(("routes", i), "")).short for i in range(len(site.routes)))
    doubts = [*seen.warnings, *consistency.warnings(site, routes_at), *(_user(site, "note") if offline else ())]
    warnings = list(map(composed.problem, doubts))
    pairs_at = {
        (i, part): composed.spot(Finding((*loc, part), ""))
        for i, (loc, _) in enumerate(certificate_files.sources(site))
        for part in ("cert", "key", "ocsp", "directory")
    }
    found = tuple(in_order(warnings, path))
    secret = {*seen.private, files.SYSTEM_CAS}
    kept = {name: seen.contents[name] for name in seen.contents.keys() - secret}
    source = SavedSite(text, {**kept, **composed.texts}, variables)
    loaded = Loaded(path, site, seen.contents, resolved, found, tests_at, "", seen.rules, pairs_at, source, routes_at)
    loaded = replace(loaded, user_stamps=seen.user_stamps, included=composed.texts, database=seen.database)
    return _with_maps(loaded, seen.maps, seen.map_stamps)


def renew_users(loaded: Loaded) -> tuple[Loaded, dict[Path, str]]:
    """The same with the files of users as they are now; for each that has changed, what is wrong with it.

    Where that is not empty, its users stay as they were.
    """
    stamps = user_files.stamps(loaded.site, loaded.rules)
    contents, read = dict(loaded.files), {}
    for path in dict.fromkeys(user_files.paths(loaded.site, loaded.rules)):
        if stamps[str(path)] == loaded.user_stamps.get(str(path)):
            continue
        try:
            contents[path], read[path] = user_files.content(path), ""
        except OSError as error:
            read[path] = f"cannot read it: {(error.strerror or str(error)).lower()}"
        except ValueError as error:
            read[path] = str(error)
    renewed = replace(loaded, files=contents, user_stamps=stamps)
    return _with_maps(renewed, loaded.maps, loaded.map_stamps), read


def renew_client_cas(loaded: Loaded) -> tuple[Loaded, tuple[RefusedFile, ...]]:
    """The same with the files of clients' CAs as they are now, and what is wrong with those that stay as they were."""
    contents, kept = dict(loaded.files), []
    for path in certificate_files.client_cas(loaded.site):
        try:
            contents[path] = certificate_files.read_cas(path)
        except OSError as error:
            kept.append(RefusedFile(str(path), f"cannot read {path}: {(error.strerror or str(error)).lower()}"))
        except ValueError as error:
            kept.append(RefusedFile(str(path), str(error)))
    if contents == loaded.files:
        return loaded, tuple(kept)
    return _with_maps(replace(loaded, files=contents), loaded.maps, loaded.map_stamps), tuple(kept)


def renew_maps(loaded: Loaded) -> tuple[Loaded, dict[str, str]]:
    """The same with the maps as their files are now; for each map that was read, what is wrong with its file.

    Where that is not empty, the map keeps its content.
    """
    found, stamps = dict(loaded.maps), dict(loaded.map_stamps)
    read = {}
    for name, model in loaded.site.maps.items():
        stamp = stamp_of(model.file)
        if stamp == loaded.map_stamps.get(str(model.file)):
            continue
        stamps[str(model.file)] = stamp  # a file that is refused is not read again before it changes
        try:
            content, stamps[str(model.file)] = maps.read(model.file)
            found[name], read[name] = maps.table(model, content), ""
        except MapFaults as error:
            read[name] = "; ".join(f"{model.file}:{line}: {reason}" for line, reason in error.problems)
        except OSError as error:
            read[name] = f"cannot read {model.file}: {(error.strerror or str(error)).lower()}"
        except ValueError as error:
            read[name] = str(error)
    database = loaded.database
    path = loaded.site.dns.maxmind_file if loaded.site.dns is not None else None
    if path is not None and (now := stamp_of(path)) != loaded.map_stamps.get(str(path)):
        stamps[str(path)] = now
        try:
            (database, stamps[str(path)]), read[maps.MAXMIND] = places.read(path), ""
        except OSError as error:
            read[maps.MAXMIND] = f"cannot read {path}: {(error.strerror or str(error)).lower()}"
        except ValueError as error:
            read[maps.MAXMIND] = f"{path}: {error}"
    return _with_maps(replace(loaded, database=database), found, stamps), read


def _with_maps(loaded: Loaded, tables: Tables, stamps: Stamps) -> Loaded:
    """The same with the tables of its maps."""
    texts = {loaded.site.maps[name].file: memoryview(made) for name, made in tables.items()}
    source = replace(loaded.source, files={**loaded.source.files, **texts})
    contents: dict[Path, Content] = {**loaded.files, **loaded.included, **texts}
    database = loaded.database.digest if loaded.database is not None else ""
    digest = _digest(source.text + repr(sorted(source.variables.items())) + database, contents)
    return replace(loaded, maps=tables, map_stamps=stamps, source=source, digest=digest)


def _frontends(data: dict[str, Any]) -> list[str]:
    """The names of all frontends in the file as written, where they have one."""
    items = data.get("frontends")
    named = [item for item in items if isinstance(item, dict) and "name" in item] if isinstance(items, list) else []
    return [str(item["name"]) for item in named]


def _sites(data: dict[str, Any]) -> list[str]:
    """The names of all sites in the file as written."""
    sites = data.get("sites")
    if not isinstance(sites, dict):
        return []
    peers = sites.get("peers")
    own = [str(sites["self"])] if "self" in sites else []
    return [*own, *(map(str, peers) if isinstance(peers, dict) else ())]


def _digest(text: str, contents: Mapping[Path, Content]) -> str:
    found = hashlib.sha256(text.encode())
    for name, content in sorted(contents.items()):
        found.update(hashlib.sha256(bytes(name)).digest() + hashlib.sha256(content).digest())
    return found.hexdigest()


def _rest(data: dict[str, Any], error: ValidationError, context: dict[str, Any]) -> tuple[Site, dict[str, list[int]]]:
    """Remove the wrong parts of `data`, so that the rest can be checked as well.

    First only wrong keys are removed (the next round finds missing keys), then whole items: for lists that lost some,
    the second result has the original indices of the others.
    """
    for _ in range(_ROUNDS):
        data = _without(data, explain.places(error))
        try:
            return Site.model_validate(data, context=context), {}
        except ValidationError as left:
            error = left
    drop = {loc[: 1 + (loc[0] in _ITEMS)] for loc in explain.places(error)}
    origin = {}
    rest = {name: value for name, value in data.items() if (name,) not in drop}
    for name in _ITEMS & rest.keys():
        if isinstance(rest[name], dict):
            rest[name] = {key: item for key, item in rest[name].items() if (name, key) not in drop}
        else:
            origin[name] = [i for i in range(len(rest[name])) if (name, i) not in drop]
            rest[name] = [rest[name][i] for i in origin[name]]
    return Site.model_validate(rest, context=context), origin


def _without(value: Any, locs: Iterable[Loc]) -> Any:
    """A copy of `value` without the keys at `locs`; lists keep their length."""
    below: dict[str | int, list[Loc]] = {}
    for loc in locs:
        if loc:
            below.setdefault(loc[0], []).append(loc[1:])
    if isinstance(value, dict):
        return {key: _without(item, below.get(key, ())) for key, item in value.items() if () not in below.get(key, ())}
    if isinstance(value, list):
        return [_without(item, below.get(i, ())) for i, item in enumerate(value)]
    return value


def _restored(finding: Finding, origin: dict[str, list[int]]) -> Finding:
    """`finding` with the indices of the whole file."""
    match finding.loc:
        case (str(name), int(index), *inner) if name in origin:
            return replace(finding, loc=(name, origin[name][index], *inner))
    return finding


def text_of(path: Path) -> str:
    """The text of a site file. Raises ConfigError."""
    try:
        content, _ = regular_file.read(path, MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([_problem(path, Place(), f"cannot read it: {(error.strerror or '').lower()}")]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError([_problem(path, Place(), "larger than 16MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        message = "not UTF-8 but UTF-16: save it as UTF-8" if utf16 else "not UTF-8"
        place = Place(len(before), before.count("\n"), len(before) - before.rfind("\n") - 1)
        raise ConfigError([_problem(path, place, message)]) from None


def _problem(path: Path, place: Place, message: str, severity: Severity = "error") -> Problem:
    return Problem(path, place.line + 1, place.column + 1, message, severity)


def _resolve(site: Site, ask: Resolve) -> tuple[dict[tuple[str, str], Endpoint], list[Finding]]:
    """The address of each server, and the problems of names that cannot be resolved."""
    servers = [
        (backend.name, i, server)
        for backend in site.backends.values()
        for i, server in enumerate(backend.servers)
        if server.address.kind != "dns"
    ]
    answers = ask(site, {server.address.host for _, _, server in servers if not server.address.is_literal})
    resolved: dict[tuple[str, str], Endpoint] = {}
    findings = []
    for backend, i, server in servers:
        address = server.address
        answer = answers.get(address.host, address.host)
        if isinstance(answer, OSError):
            reason = (answer.strerror or str(answer)).lower()
            findings.append(
                Finding(("backends", backend, "servers", i, "address"), f"cannot resolve {address.host}: {reason}")
            )
        else:
            resolved[backend, server.name] = address.path if address.kind == "unix" else (answer, address.port)
    return resolved, findings


def _user(site: Site, severity: Severity = "error") -> Iterator[Finding]:
    try:
        pwd.getpwnam(site.user)
    except KeyError:
        yield Finding(("user",), f"the user {site.user} does not exist on this machine", severity=severity)
