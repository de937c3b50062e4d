"""The files named in a site: read once, by a process with the permission, so that no other opens them."""

import os
import ssl
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.config import (
    apache,
    apache_rules,
    certificate,
    certificate_files,
    htpasswd,
    maps,
    named_file,
    places,
    python,
    user_files,
)
from gateway.config.acme import external_key
from gateway.config.admin import Admin
from gateway.config.basic_auth import BasicAuth
from gateway.config.certificate import Facts
from gateway.config.certificate_files import Faults, Managed, PairFiles
from gateway.config.dns import BalancedName, parse_networks, parse_signing_key, parse_update_key
from gateway.config.file_stamp import NONE, Stamp, stamp_of
from gateway.config.map_table import MapFaults, MapTable
from gateway.config.maps import MapFile
from gateway.config.model import Apache, Site
from gateway.config.places import Database
from gateway.config.problem import Fault, Finding, Loc, Unreadable, suggest
from gateway.config.python import Function
from gateway.config.saved import Content, SavedSite

SYSTEM_CAS: Final = Path("CAs of this machine")
"""Among contents of files: the CA certificates that this machine trusts, wherever they are."""
_SYSTEM_CAS: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where Debian and Fedora keep them in one file, if OpenSSL does not say."""
STAND_IN: Final = b"0123456789abcdef" * 4
"""Stands for a key that cannot be read offline."""
MIN_KEY_BYTES: Final = 16
"""Shorter keys for signed reports could be guessed."""

_KEYS: Final = (("cluster", "key_file"), ("sites", "key_file"), ("dns", "cookie_key_file"), ("admin", "token_file"))
"""Sections that may name the file of a shared secret, and by which key."""


class Files:
    """Contents of files by path, Apache rules in those that have them, problems, and warnings.

    Files of `saved` are not read again; those of users in it are used as nothing else. `maps` are the tables of maps by
    name. `offline`: a key that cannot be read is a note, and another stands in for it; certificates, CAs and logs are
    notes, too.
    """

    def __init__(self, saved: SavedSite, *, offline: bool) -> None:
        self.offline = offline
        self._again = bool(saved.text)
        self.users = saved.users
        self.contents = {path: bytes(content) for path, content in saved.files.items()}
        self.maps: dict[str, MapTable] = {}
        self.map_stamps: dict[str, Stamp] = {}
        self.database: Database | None = None
        self.user_stamps: dict[str, Stamp] = {}
        self.private: set[Path] = set()
        self.rules: dict[Path, apache_rules.Rules] = {}
        self.findings: list[Finding] = []
        self.warnings: list[Finding] = []

    def read(self, path: Path, loc: Loc, *, private: bool = False, within: str = "") -> bytes | None:
        """Return the content, or None after recording a problem. A private file must belong to its owner alone.

        `within` names the line of another file that names this one.
        """
        try:
            if private:
                self.private.add(path)
            content = self.contents.get(path)
            if content is None or private or path in self.users:
                content = self.contents[path] = named_file.read(path, private=private)
        except OSError as error:
            return self._refuse(path, loc, f"{within}{_cannot_read(path, error)}", private=private)
        except ValueError as error:
            return self._refuse(path, loc, f"{within}{error}", private=private)
        if private:
            self.note_group(path, loc)
        return content

    def _refuse(self, path: Path, loc: Loc, message: str, *, private: bool) -> bytes | None:
        self.complain(Finding(loc, message), unreadable=private)
        self.contents.pop(path, None)
        if not (private and self.offline):
            return None
        try:
            self.contents[path] = named_file.read(path, private=False)  # others can read it, too, which is reported
        except (OSError, ValueError):
            self.contents[path] = STAND_IN
        return self.contents[path]

    def complain(self, finding: Finding, *, unreadable: bool) -> None:
        """Record a problem, or, offline, a note on something that is only on the machines of the site."""
        if self.offline and unreadable:
            self.warnings.append(replace(finding, severity="note"))
        else:
            self.findings.append(finding)

    def complain_of_program(self, finding: Finding) -> None:
        """Record that a program cannot be run; a configuration that was in use does without."""
        if self._again:
            self.warnings.append(replace(finding, severity="warning"))
        else:
            self.complain(finding, unreadable=True)

    def note_group(self, path: Path, loc: Loc) -> None:
        """Warn if a private file is also readable by a group."""
        try:
            group = named_file.shared_with(path.stat())
        except OSError:
            return  # reported where it is read
        if group:
            message = f"the group {group} can read {path}: if that is not intended for the gateway, run chmod 600"
            self.warnings.append(Finding(loc, message, severity="warning"))


def read(
    site: Site,
    saved: SavedSite,
    *,
    certificates: bool = True,
    offline: bool = False,
) -> Files:
    """Read and check every file of `site`, but for those whose contents are in `saved`.

    Certificates and their keys are not kept, and read only if requested. `offline`: see Files.
    """
    mapped = {model.file for model in site.maps.values()}  # a table has the text of its file
    others = {path: content for path, content in saved.files.items() if path not in mapped}
    files = Files(replace(saved, files=others), offline=offline)
    for status, page in site.pages.items():
        files.read(page, ("pages", str(status)))
    for path, loc in _session_pages(site):
        files.read(path, loc)
    for path, loc in _keys(site):
        secret = files.read(path, loc, private=True)
        if secret is not None and len(secret.strip()) < MIN_KEY_BYTES:
            files.findings.append(Finding(loc, f"the key is too short: at least {MIN_KEY_BYTES} bytes"))
    _check_others_keys(files, site)
    _check_certificates(files, site, certificates=certificates)
    for path, loc in {**trusted(site), **certificate_files.client_cas(site)}.items():
        _read_cas(files, path, loc)
    for loc, name in _networks(site):
        _read_networks(files, name, loc)
    _read_database(files, site, again=bool(saved.text))
    for called, model in site.maps.items():
        _read_map(files, called, model, saved.files.get(model.file))
    _read_of_routes(files, site)
    for finding in (*_log_directory(site), *_state_directory(site)):
        files.complain(finding, unreadable=True)
    return files


def _read_of_routes(files: Files, site: Site) -> None:
    """The files that routes name."""
    for i, route in enumerate(site.routes):
        if route.respond is not None and route.respond.file is not None:
            files.read(route.respond.file, ("routes", i, "respond", "file"))
        for status, page in route.pages.items():
            files.read(page, ("routes", i, "pages", str(status)))
    shared = apache_rules.Rules()
    for i, route in enumerate(site.routes):
        if route.basic_auth is not None:
            _read_users(files, route.basic_auth, ("routes", i, "basic_auth"))
        if route.apache is not None:
            _read_rules(files, route.apache, site, ("routes", i, "apache"), shared)
        if route.python is not None:
            _read_function(files, route.python.function, ("routes", i, "python"))


def _read_map(files: Files, name: str, model: MapFile, saved: Content | None) -> None:
    """The table of a map; what is wrong in its file has its own line."""
    loc = ("maps", name, "file")
    try:
        if saved is None:
            content, files.map_stamps[str(model.file)] = maps.read(model.file)
        else:
            content, files.map_stamps[str(model.file)] = bytes(saved), NONE
        files.maps[name] = maps.table(model, content)
    except MapFaults as error:
        files.findings += [Finding(loc, f"{model.file}:{line}: {reason}") for line, reason in error.problems]
    except OSError as error:
        files.findings.append(Finding(loc, _cannot_read(model.file, error)))
    except ValueError as error:
        files.findings.append(Finding(loc, str(error)))


def _read_database(files: Files, site: Site, *, again: bool) -> None:
    """The MaxMind file; `again`: of a configuration that was in use, which does without one that cannot be read now."""
    path = site.dns.maxmind_file if site.dns is not None else None
    if path is None:
        return
    loc = ("dns", "maxmind_file")
    try:
        files.database, files.map_stamps[str(path)] = places.read(path)
        return
    except OSError as error:
        finding = Finding(loc, _cannot_read(path, error))
    except ValueError as error:
        finding = Finding(loc, f"{path}: {error}")
    if again:
        files.warnings.append(replace(finding, severity="warning"))
    else:
        files.complain(finding, unreadable=True)


def _check_certificates(files: Files, site: Site, *, certificates: bool) -> None:
    """Check certificates and their keys, if requested, and what groups can read them in any case."""
    now = time.time()
    for loc, source in certificate_files.sources(site):
        try:
            listing = certificate_files.listed(source)
        except Fault as fault:
            if certificates:
                files.complain(Finding((*loc, *fault.at), str(fault)), unreadable=isinstance(fault, Unreadable))
            continue
        ignored = listing.ignored if certificates else ()
        files.warnings += [Finding((*loc, "directory"), text, severity="warning") for text in ignored]
        for pair in listing.pairs:
            if isinstance(source, Managed):
                _check_managed(files, pair, loc, now, certificates=certificates)
                continue
            try:
                found = certificate_files.check(certificate_files.read(pair)) if certificates else None
            except Faults as error:
                found = _without_pair(files, pair, loc, error)
            else:
                files.note_group(pair.key, (*loc, *pair.within("key")))
            if found is not None:
                _warn(files, pair, loc, found.concerns(now))


def _without_pair(files: Files, pair: PairFiles, loc: Loc, error: Faults) -> Facts | None:
    """Record what is wrong with a pair; offline, where a file of it cannot be read, the rest is checked."""
    faults, found = list(error.faults), None
    if files.offline and any(isinstance(one, Unreadable) for one in faults):
        try:
            found = certificate_files.look(pair)
        except Faults as further:
            faults += [one for one in further.faults if str(one) not in map(str, faults)]
    for one in faults:
        files.complain(Finding((*loc, *pair.at(one)), pair.said(one)), unreadable=isinstance(one, Unreadable))
    return found


def _check_managed(files: Files, pair: PairFiles, loc: Loc, now: float, *, certificates: bool) -> None:
    """A certificate by ACME: there is nothing for an operator to repair, because another one will be made."""
    try:
        found = certificate_files.check(certificate_files.read(pair)) if certificates else None
    except Faults as error:
        for one in error.faults:
            files.warnings.append(Finding(loc, f"{pair.said(one, named=True)}; it is left out", severity="warning"))
        return
    if found is not None:
        _warn(files, pair, loc, found.concerns(now))
    files.note_group(pair.key, (*loc, *pair.within("key")))


def _warn(files: Files, pair: PairFiles, loc: Loc, concerns: Iterable[str]) -> None:
    at = (*loc, *pair.within("cert"))
    files.warnings += [Finding(at, f"{pair.cert}: {concern}", severity="warning") for concern in concerns]


def trusted(site: Site) -> dict[Path, Loc]:
    """The files of CAs by which servers, and authorities, are verified, and where they are named first."""
    found: dict[Path, Loc] = {}
    for name, backend in site.backends.items():
        for i, server in enumerate(backend.servers):
            tls = backend.tls_to(server)
            if tls is not None and tls.verify:
                at: Loc = ("tls",) if backend.tls is not None else ("servers", i)
                found.setdefault(tls.ca or SYSTEM_CAS, ("backends", name, *at, *(["ca"] if tls.ca else [])))
            tls = backend.tls_of_check(server) if backend.check is not None else None
            if tls is not None and tls.verify:
                found.setdefault(tls.ca or SYSTEM_CAS, ("backends", name, "check", "tls", *(["ca"] if tls.ca else [])))
    for i, frontend in enumerate(site.frontends):
        if frontend.tls is not None and frontend.tls.acme is not None:
            ca = frontend.tls.acme.ca
            found.setdefault(ca or SYSTEM_CAS, ("frontends", i, "tls", "acme", *(["ca"] if ca else [])))
    return found


def _read_cas(files: Files, path: Path, loc: Loc) -> None:
    where = path
    if path == SYSTEM_CAS:
        known = [ssl.get_default_verify_paths().cafile, *_SYSTEM_CAS]
        where = next((Path(name) for name in known if name and Path(name).is_file()), path)
        if where == path:
            message = "this machine has no file of trusted CAs: apt install ca-certificates, or say tls: ca"
            files.complain(Finding(loc, message), unreadable=True)
            return
    try:
        files.contents.setdefault(where, named_file.read(where, private=False))
    except OSError as error:
        files.complain(Finding(loc, _cannot_read(where, error)), unreadable=True)
        return
    except ValueError as error:
        files.findings.append(Finding(loc, str(error)))
        return
    content = files.contents[where]
    files.contents[path] = files.contents.pop(where)
    try:
        certificate.load_cas(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), content)
    except Fault as fault:
        files.findings.append(Finding(loc, f"{where}: {fault}"))


def _keys(site: Site) -> Iterator[tuple[Path, Loc]]:
    """Yield each file of a shared secret, and its location."""
    if site.load_reports:
        for key in ("secret_file", "key_file"):
            if (path := getattr(site.load_reports, key)) is not None:
                yield path, ("load_reports", key)
        for name, path in site.load_reports.keys.items():
            yield path, ("load_reports", "keys", name)
    yield from _operators_keys(site.admin)
    for section, key in _KEYS:
        path = getattr(getattr(site, section), key, None)
        if path is not None:
            yield path, (section, key)
    yield from _others_keys(site)
    for i, frontend in enumerate(site.frontends):
        if frontend.tls and frontend.tls.ticket_key_file:
            yield frontend.tls.ticket_key_file, ("frontends", i, "tls", "ticket_key_file")
    for at, _, affinity in site.affinities():
        if affinity.key_file:
            yield affinity.key_file, (*at, "key_file")


def _operators_keys(admin: Admin) -> Iterator[tuple[Path, Loc]]:
    for i, operator in enumerate(admin.operators):
        if operator.token_file is not None:
            yield operator.token_file, ("admin", "operators", i, "token_file")


def _others_keys(site: Site) -> Iterator[tuple[Path, Loc]]:
    """Those that others have made, or read, so that they have a form."""
    for i, frontend in enumerate(site.frontends):
        wanted = frontend.tls.acme if frontend.tls is not None else None
        if wanted is not None and wanted.external_account is not None:
            at: Loc = ("frontends", i, "tls", "acme", "external_account", "key_file")
            yield wanted.external_account.key_file, at
    for name, zone in site.dns.zones.items() if site.dns is not None else ():
        if zone.dnssec is not None:
            yield zone.dnssec.key_file, ("dns", "zones", name, "dnssec", "key_file")
        if zone.updates is not None:
            yield zone.updates.key_file, ("dns", "zones", name, "updates", "key_file")


def _check_others_keys(files: Files, site: Site) -> None:
    parsers = {"updates": parse_update_key, "dnssec": parse_signing_key, "external_account": external_key}
    for path, loc in _others_keys(site):
        content = files.contents.get(path)
        if content is None or content == STAND_IN:
            continue
        try:
            parsers[str(loc[-2])](content)
        except ValueError as error:
            files.findings.append(Finding(loc, f"{path}: {error}"))


def _session_pages(site: Site) -> Iterator[tuple[Path, Loc]]:
    """Yield each page for clients without a session, and its location."""
    sessions = site.qos.sessions
    if sessions is not None:
        for key in ("waiting_room", "full"):
            part = getattr(sessions, key)
            if part is not None and part.page is not None:
                yield part.page, ("qos", "sessions", key, "page")


def _networks(site: Site) -> Iterator[tuple[Loc, BalancedName]]:
    """Yield each balanced name with a file of networks, and the location of that."""
    for at, _, name in site.dns.balanced() if site.dns is not None else ():
        if name.networks_file is not None:
            yield (*at, "networks_file"), name


def _read_networks(files: Files, name: BalancedName, loc: Loc) -> None:
    assert name.networks_file is not None  # noqa: S101 - see _networks
    content = files.read(name.networks_file, loc)
    if content is not None:
        try:
            parse_networks(content, name.sites)
        except ValueError as error:
            files.findings.append(Finding(loc, f"{name.networks_file}:{error}"))


def _users_in(files: Files, path: Path, at: Loc, within: str = "") -> htpasswd.Users | None:
    """A file of users; what is wrong inside has its own line. Its hashes are secret, but seldom of one owner alone."""
    files.private.add(path)
    # Before it is read: a change in between is noticed.
    files.user_stamps.setdefault(str(path), stamp_of(path))
    content = files.users.get(path)
    if content is None:
        content = files.read(path, at, within=within)
    if content is None:
        return None
    files.contents[path] = content
    try:
        users = htpasswd.parse(content)
    except htpasswd.BadUsers as error:
        files.findings += [Finding(at, f"{within}{path}:{line}: {fault}") for line, fault in error.faults]
        return None
    warnings = [f"{within}{path}:{line}: {text}" for line, text in users.warnings]
    if named_file.open_to_all(path):
        warnings.append(f"every user of this machine can read the hashes in {path}: chmod 640 {path}")
    files.warnings += [Finding(at, text, severity="warning") for text in warnings]
    return users


def _read_users(files: Files, model: BasicAuth, loc: Loc) -> None:
    users = _users_in(files, model.file, (*loc, "file"))
    if users is None:
        return
    unknown = [user for user in model.users if user.encode() not in users.hashes]
    known = [name.decode("utf-8", "replace") for name in users.hashes]
    for user in unknown:
        files.findings.append(Finding((*loc, "users"), f"{model.file} has no user {user}{suggest(user, known)}"))


def _read_rules(files: Files, model: Apache, site: Site, loc: Loc, shared: apache_rules.Rules) -> None:
    """A file of Apache's rules and those of its maps; what is wrong inside has its own line.

    `shared` has the maps of the files before it, and gets its own.
    """
    content = files.read(model.file, loc)
    if content is None:
        return
    for line, name in apache.files(content):
        files.read(model.file.parent / name, loc, within=f"{model.file}:{line}: ")
    try:
        folder = model.file.parent
        rules = apache.parse(content, lambda name: files.contents.get(folder / name, b""), shared, folder)
    except apache.ApacheError as error:
        files.findings += [Finding(loc, f"{model.file}:{line}: {reason}") for line, reason in error.problems]
        return
    files.rules[model.file] = rules
    for path in user_files.of_rules(model.file, rules).values():
        _users_in(files, path, loc, f"{model.file}: ")
    fresh = rules.programs - shared.programs
    shared.maps.update(rules.maps)
    shared.random |= rules.random
    for program in sorted(fresh, key=lambda made: made.command):
        if why := _cannot_run(program):
            files.complain_of_program(Finding(loc, f"{model.file}: {why}"))
    if any(part.encoded_slashes not in (None, "off") for part in rules.lists):
        names = [frontend.name for frontend in site.frontends if not frontend.encoded_slashes]
        if names:
            text = (
                f"AllowEncodedSlashes has no effect at {', '.join(names)} without encoded_slashes: true: %2F gets 400"
            )
            files.warnings.append(Finding(loc, f"{model.file}: {text}", severity="warning"))
    files.warnings += [
        Finding(loc, f"{model.file}:{line}: {text}", severity="warning") for line, text in rules.warnings
    ]
    files.warnings += [
        Finding(loc, f"{model.file}:{line}: {text}", severity="warning")
        for line, text in _notes_on(rules, directory=model.context == "directory")
    ]
    known = targets(site)
    hosts = [("P", rule.line, apache_rules.target(rule)) for rule in rules.rewrites]
    hosts += [("ProxyPass", item.line, item.host) for item in rules.proxied]
    for name, line, host in hosts:
        if host is not None and host not in known:
            reason = f"the host of {name}, {host}, is neither a backend nor a server's address{suggest(host, known)}"
            files.findings.append(Finding(loc, f"{model.file}:{line}: {reason}"))


def _notes_on(rules: apache_rules.Rules, *, directory: bool) -> Iterator[tuple[int, str]]:
    """What to know of rewrite rules, by line. `directory`: those outside of sections are of a directory."""
    for part in rules.lists:
        for line, script in apache_rules.front_controllers(part.rules).items():
            text = (
                f"this sends every URL without a file to {script}, which then sees that path in place of the one asked "
                "for: your server does this by itself; leave the block out"
            )
            yield line, text
        inner = any(part is other for one in rules.lists for _, other in one.directories)
        if part.base is None and (directory or inner):
            text = (
                "without RewriteBase, Apache redirects to the name of a file here; the gateway takes it as a path "
                "below the directory's URL: say RewriteBase"
            )
            yield from ((rule.line, text) for rule in filter(apache_rules.names_a_file, part.rules))


def _cannot_run(program: apache_rules.Program) -> str:
    """Why a program of a map cannot be run; an empty text: it can."""
    path = program.command[0]
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return f"cannot run {path}: {(error.strerror or str(error)).lower()}"
    if not stat.S_ISREG(mode):
        return f"cannot run {path}: it is not a file"
    return "" if mode & 0o111 else f"cannot run {path}: it is not executable: chmod +x {path}"


def _read_function(files: Files, function: Function, loc: Loc) -> None:
    content = files.read(function.path, loc)
    if content is not None:
        try:
            python.check(function, content)
        except Fault as fault:
            files.findings.append(Finding(loc, str(fault)))


def targets(site: Site) -> dict[str, str]:
    """The valid hosts of a [P]: names of backends, and addresses of their servers."""
    addresses = {str(server.address): name for name, backend in site.backends.items() for server in backend.servers}
    return addresses | {name: name for name in site.backends}


def _log_directory(site: Site) -> Iterator[Finding]:
    for number, log in enumerate(site.access_log):
        if log.path is not None and log.path != "-" and not (directory := Path(log.path).parent).is_dir():
            yield Finding(("access_log", number, "path"), f"there is no directory {directory}")


def _state_directory(site: Site) -> Iterator[Finding]:
    """It is made if it is not there."""
    if os.path.isfile(site.state):  # noqa: PTH113 - Path's raises where a directory is closed to us
        yield Finding(("state",), f"{site.state} is a file: name a directory, which is made if it is not there")


def secret(path: Path) -> bytes:
    """Read a key from a file that only its owner may read. Raises OSError, or ValueError with the reason."""
    key = named_file.read(path, private=True).strip()
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"{path}: the key is too short: at least {MIN_KEY_BYTES} bytes")
    return key


def _cannot_read(path: Path, error: OSError) -> str:
    return f"cannot read {path}: {(error.strerror or str(error)).lower()}"
