"""The API for operators: what there is to ask and to change, as a table, and its description in OpenAPI.

Every change is one of the commands that the supervisor or the heartbeat process obeys for `gateway drain` and the like;
nothing is decided here.
"""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gateway import __version__
from gateway.admin import problems
from gateway.admin.access import JSON
from gateway.admin.audit import Audit, Change
from gateway.admin.problems import Problem
from gateway.admin.server import Asked, BadRequest, Endpoint
from gateway.board import BOUNDS
from gateway.config import json_schema
from gateway.config.admin import AccessRole
from gateway.config.overrides import NODE, SITE, WEIGHTS
from gateway.config.posted import LARGEST
from gateway.config.units import version_text
from gateway.outcome import OUTCOMES, SIDES
from gateway.process.tail import Wanted
from gateway.reports import (
    BackendReport,
    CertificatesReport,
    ClassReport,
    DnsReport,
    EvacuationReport,
    FrontendReport,
    GatewayReport,
    HeartbeatReport,
    OverridesReport,
    ProcessReport,
    ServerReport,
    SessionsReport,
    SiteStateReport,
)

ROOT: Final = "/api/v1"
RELOAD_SECONDS: Final = 120.0
"""For the outcome of a reload."""
INQUIRY_SECONDS: Final = 25.0
"""For a request that is explained, and for the tests."""
ORDER_SECONDS: Final = 10.0
"""Until a change is in force."""

LIVE_RATE: Final = 200
"""Requests a second of each worker that are sent to one who follows them."""

_OUTCOMES: Final = tuple(name for name, _, _ in OUTCOMES[1:])
_SIDES: Final = SIDES[1:]

T = TypeVar("T", bound=BaseModel)


class Refused(Exception):
    """The gateway cannot do it; the text says why.

    Of a refused reload: the `version` in use (the number of its load), that of the `history`, and the `problems`.
    """

    def __init__(
        self, message: str, version: int | None = None, history: int | None = None, problems: str | None = None
    ) -> None:
        super().__init__(message)
        self.version = version
        self.history = history
        self.problems = problems


class Running(Protocol):
    """The gateway that is asked."""

    def report(self) -> GatewayReport:
        """What control knows."""
        ...

    def overheard(self) -> HeartbeatReport | None:
        """What the heartbeat process has said last; None: there is none, or it is silent."""
        ...

    async def order(self, command: str, seconds: float) -> Mapping[str, Any]:
        """Let the supervisor carry out a command; its answer. Raises Refused."""
        ...

    async def order_heartbeat(self, command: str) -> HeartbeatReport:
        """Let the heartbeat process carry out a command; its report then. Raises Refused."""
        ...

    async def in_force(self, serial: int, seconds: float) -> None:
        """Wait until control has taken up the override of this number. Raises Refused."""
        ...


# -------------------------------------------------------------------------------------------------- requests, responses


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Nothing(_Body):
    """A command without settings: {}."""


class Target(_Body):
    """A server (backend/server), a whole backend, or this gateway."""

    target: str | None = Field(None, max_length=200, description="backend/server, or backend.")
    node: bool = Field(default=False, description="This gateway, instead of a target.")

    @model_validator(mode="after")
    def _one(self) -> "Target":
        if (self.target is not None) is self.node:
            raise ValueError("either a target, or node: true")
        return self

    @property
    def name(self) -> str:
        """As the supervisor calls it."""
        return NODE if self.target is None else self.target


Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class Request(_Body):
    """A request that is explained, as the running gateway would decide on it."""

    request: str = Field(max_length=16384, description="Method and URL, such as GET https://www.example.com/path.")
    headers: list[Pair] = Field([], max_length=200, description="Names and values.")
    client: str = Field("192.0.2.1", max_length=64, description="Address of the client.")


class Posted(_Body):
    """A site file that is to be checked."""

    text: str = Field(max_length=LARGEST)


class Numbered(_Body):
    """A version of the history."""

    number: int = Field(ge=1)


class Compared(_Body):
    """Two versions of the history; without `after`, one is compared with the files as they are now."""

    before: int = Field(ge=1)
    after: int | None = Field(None, ge=1)


class OfSite(_Body):
    """The site that this gateway is of."""

    site: str = Field(max_length=200)


class Followed(BaseModel):
    """Which requests are followed: those for which everything given here holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: str = Field("", max_length=2000, description="An expression about the request as it was received.")
    outcome: list[Literal[_OUTCOMES]] = Field(  # type: ignore[valid-type]
        [], max_length=50, description="How it ended; several: one of these."
    )
    side: list[Literal[_SIDES]] = Field(  # type: ignore[valid-type]
        [], max_length=10, description="By whose fault it failed; several: one of these."
    )
    id: str = Field("", max_length=200, description="The request's id.")
    steps: bool = Field(default=False, description="Each step of a request; needs `most`.")
    most: int = Field(0, ge=0, le=1_000_000, description="Requests of each worker; 0: no limit.")
    per_second: int = Field(
        LIVE_RATE, ge=1, le=LIVE_RATE, description="Requests of each worker; the others are counted."
    )


class Weighed(_Body):
    """A server or a backend, and its weight."""

    target: str = Field(max_length=200, description="backend/server, or backend.")
    weight: int = Field(json_schema_extra={"minimum": WEIGHTS.start, "maximum": WEIGHTS.stop - 1})
    """The supervisor refuses others, and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything at once: what the page shows, and what an event has."""

    at: float
    """Time of the report, in seconds since 1970."""
    gateway: GatewayReport
    cluster: HeartbeatReport | None
    """None: there is no cluster, or the heartbeat process does not respond."""
    problems: tuple[Problem, ...]
    recent: tuple[Problem, ...]
    """What has gone wrong in the last ten minutes while they were asked for, latest first."""
    durations: tuple[float, ...]
    """Upper bounds in seconds of the cells of all histograms but the last, which has no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The site file is in use."""

    version: int
    """Which load of the gateway it is: its start is the first one, and each reload another."""
    history: int | None
    """The number of the version in the history; null: it is not there."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """The change is in force."""

    problem: str
    """Why it does not hold over a restart; "": it does."""
    servers: tuple[ServerReport, ...]
    """Those of the target, by their full names; none for the gateway."""
    node: str | None
    """Admin state of this gateway; None: not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The caller's name and role."""

    name: str
    role: AccessRole | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What happens to a request."""

    request: str
    text: str
    """Step by step, as `gateway explain` prints it."""
    decision: Mapping[str, Any]
    """The same as `gateway explain --json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One of the site file's tests."""

    line: int
    request: str
    passed: bool
    why: str
    """The differences; "" if it passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """The site file's tests, in its order."""

    tests: tuple[Tested, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteText:
    """The site file in use, as it was read."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong, or doubtful, at a place of a site file."""

    line: int
    column: int
    severity: str
    """error or warning."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A site file that was checked in the place of the one in use."""

    ok: bool
    """Whether it has no errors."""
    problems: tuple[Fault, ...]
    tests: tuple[Tested, ...]
    """The outcome of its tests; none if it has errors."""
    diff: str
    """From the one in use, in the unified format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A configuration that ran."""

    number: int
    at: float
    """Since when, in seconds since 1970."""
    by: str
    """What put it into force."""
    digest: str
    program: str
    same_as: int | None
    """The first one with the same content; null: this one."""
    in_force: bool
    """Whether the gateway runs by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The history, the oldest version first."""

    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionText:
    """The site file of a version."""

    number: int
    at: float
    by: str
    digest: str
    program: str
    text: str
    differing: tuple[str, ...]
    """The files that it names and that are not as they were then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Lines that differ: those with - are of the version before."""

    before: int
    after: int | None
    changes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no other answer."""

    error: str
    version: int | None = None
    """After a refused reload: which load of the site file stays in use,"""
    history: int | None = None
    """its version in the history, if it is there,"""
    problems: str | None = None
    """and what is wrong with the other one."""


def servers(report: GatewayReport) -> tuple[ServerReport, ...]:
    """Every server by its full name, backend/server."""
    return tuple(
        replace(server, name=f"{backend.name}/{server.name}")
        for backend in report.backends
        for server in backend.servers
    )


# ------------------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One path with one method: `returns` and `takes` are the types of its bodies, `query` what may follow the path.

    `refuses`: it may answer 409.
    """

    path: str
    method: str
    role: AccessRole
    summary: str
    returns: TypeAdapter[Any] | None
    takes: type[_Body] | None = None
    query: type[BaseModel] | None = None
    refuses: bool = False


def _view(path: str, summary: str, returns: Any) -> Operation:
    return Operation(path=path, method="GET", role="read", summary=summary, returns=TypeAdapter(returns))


def _change(path: str, summary: str, takes: type[_Body], returns: Any) -> Operation:
    return Operation(
        path=path,
        method="POST",
        role="operate",
        summary=summary,
        returns=TypeAdapter(returns),
        takes=takes,
        refuses=True,
    )


OPERATIONS: Final = (
    _view("/status", "Everything at once.", Status),
    _view("/problems", "What is wrong now, and why.", tuple[Problem, ...]),
    _view("/recent", "What has gone wrong lately: counters that grew within ten minutes.", tuple[Problem, ...]),
    _view("/frontends", "Frontends with their traffic.", tuple[FrontendReport, ...]),
    _view("/backends", "Backends with their traffic and servers.", tuple[BackendReport, ...]),
    _view("/servers", "Every server by its full name.", tuple[ServerReport, ...]),
    _view("/classes", "Classes of requests with their traffic and limits.", tuple[ClassReport, ...]),
    _view("/sessions", "Admitted and waiting clients; null: no sessions.", SessionsReport | None),
    _view("/certificates", "Certificates, those that expire first.", CertificatesReport),
    _view("/cluster", "Nodes and shared addresses; null: no cluster.", HeartbeatReport | None),
    _view("/sites", "Sites of the web farm by name.", Mapping[str, SiteStateReport]),
    _view("/dns", "The name server and its answers; null: none.", DnsReport | None),
    _view("/overrides", "What commands have set over the site file.", OverridesReport),
    _view("/processes", "Processes with their processor time and memory.", tuple[ProcessReport, ...]),
    _view("/audit", "The last changes over HTTP, newest first.", tuple[Change, ...]),
    _view("/whoami", "The caller's name and role.", Identity),
    Operation(path="/events", method="GET", role="read", summary="The status, once a second, as server-sent events.",
              returns=None),
    Operation(path="/logs", method="GET", role="operate", summary="Requests as they end, as server-sent events.",
              returns=None, query=Followed),
    Operation(path="/openapi.json", method="GET", role="read", summary="This description.",
              returns=TypeAdapter(dict[str, Any])),
    Operation(path="/schema", method="GET", role="read", summary="The JSON schema of site files.",
              returns=TypeAdapter(dict[str, Any])),
    Operation(path="/explain", method="POST", role="read", summary="What happens to a request, step by step.",
              takes=Request, returns=TypeAdapter(Explained), refuses=True),
    Operation(path="/tests", method="POST", role="read", summary="Run the tests of the site file in use.",
              takes=Nothing, returns=TypeAdapter(Tests), refuses=True),
    Operation(path="/site", method="GET", role="configure", summary="The site file in use.",
              returns=TypeAdapter(SiteText), refuses=True),
    Operation(path="/check", method="POST", role="configure",
              summary="Check a site file and run its tests; changes nothing.",
              takes=Posted, returns=TypeAdapter(Checked), refuses=True),
    Operation(path="/history", method="GET", role="configure", summary="The configurations that ran.",
              returns=TypeAdapter(Versions), refuses=True),
    Operation(path="/history/show", method="POST", role="configure", summary="The site file of a version.",
              takes=Numbered, returns=TypeAdapter(VersionText), refuses=True),
    Operation(path="/history/diff", method="POST", role="configure",
              summary="What differs between two versions, or between one and the files now.",
              takes=Compared, returns=TypeAdapter(Changes), refuses=True),
    _change("/reload", "Reload the site file, and wait until every worker uses it.", Nothing, Reloaded),
    Operation(path="/apply", method="POST", role="configure",
              summary="Replace the site file and reload; if that is refused, the old one stays.",
              takes=Posted, returns=TypeAdapter(Reloaded), refuses=True),
    _change("/drain", "Send no new clients; sessions stay.", Target, Overridden),
    _change("/ready", "End a drain or maintenance.", Target, Overridden),
    _change("/maintenance", "Send no more requests.", Target, Overridden),
    _change("/forget", "End all that commands have set.", Target, Overridden),
    _change("/weight", "Set a weight over the site file.", Weighed, Overridden),
    _change("/evacuate-site", "Take this site out of service, in order.", OfSite, EvacuationReport | None),
    _change("/readmit-site", "Let this site take clients again.", OfSite, EvacuationReport | None),
    _change("/evacuate", "Move every shared address to other nodes, one by one.", Nothing, HeartbeatReport),
    _change("/standby", "Move every shared address to other nodes, and take none.", Nothing, HeartbeatReport),
    _change("/join", "Take part in the cluster again.", Nothing, HeartbeatReport),
)  # fmt: skip
"""In the order of the description."""

_VIEWS: Final[Mapping[str, Callable[[Status], Any]]] = {
    "/status": lambda status: status,
    "/problems": lambda status: status.problems,
    "/recent": lambda status: status.recent,
    "/frontends": lambda status: status.gateway.frontends,
    "/backends": lambda status: status.gateway.backends,
    "/servers": lambda status: servers(status.gateway),
    "/classes": lambda status: status.gateway.classes,
    "/sessions": lambda status: status.gateway.sessions,
    "/certificates": lambda status: status.gateway.tree.certificates,
    "/cluster": lambda status: status.cluster,
    "/sites": lambda status: status.gateway.site_states,
    "/dns": lambda status: status.gateway.dns,
    "/overrides": lambda status: status.gateway.overrides,
    "/processes": lambda status: status.gateway.processes,
}
_INQUIRIES: Final[Mapping[str, type[_Body]]] = {
    "explain": Request, "tests": Nothing, "site": Nothing, "check": Posted,
    "history": Nothing, "history/show": Numbered, "history/diff": Compared,
}  # fmt: skip
"""What a process of its own answers (gateway/explain/inquiry.py, gateway/supervisor/past.py), and the body of each."""
_FAILURE: Final = TypeAdapter(Failure)
_STATUS: Final = TypeAdapter(Status)


class Api:
    """Answers for a running gateway."""

    def __init__(self, gateway: Running) -> None:
        self._gateway = gateway
        self._audit = Audit()
        self._recent = problems.Recent()

    def status(self) -> Status:
        """Everything at once."""
        report, heartbeat = self._gateway.report(), self._gateway.overheard()
        now = time.time()
        return Status(
            at=now,
            gateway=report,
            cluster=heartbeat,
            problems=problems.found(report, heartbeat, now),
            recent=self._recent.see(now, problems.counts(report, heartbeat)),
            durations=tuple(BOUNDS),
        )

    def status_text(self) -> str:
        """The same as JSON, on one line."""
        return _STATUS.dump_json(self.status()).decode()

    def endpoints(self) -> dict[str, dict[str, Endpoint]]:
        """What is at which path, but for the events."""
        found: dict[str, dict[str, Endpoint]] = {}
        for operation in OPERATIONS:
            if operation.returns is not None:
                seconds = RELOAD_SECONDS if operation.path in {"/reload", "/apply"} else INQUIRY_SECONDS + ORDER_SECONDS
                endpoint = Endpoint(role=operation.role, answer=self._answer(operation), seconds=seconds)
                found.setdefault(ROOT + operation.path, {})[operation.method] = endpoint
        return found

    def _answer(self, operation: Operation) -> Callable[[Asked], Awaitable[tuple[int, str, str]]]:
        adapter = operation.returns
        assert adapter is not None  # noqa: S101 - see endpoints

        async def answer(asked: Asked) -> tuple[int, str, str]:
            try:
                found = await self._carry_out(operation, asked)
            except Refused as error:
                failure = Failure(
                    error=str(error), version=error.version, history=error.history, problems=error.problems
                )
                return 409, JSON, _FAILURE.dump_json(failure, exclude_none=True).decode()
            return 200, JSON, adapter.dump_json(found).decode()

        return answer

    async def _carry_out(self, operation: Operation, asked: Asked) -> Any:
        command = operation.path[1:]
        if command in _INQUIRIES:
            return await self._inquire(operation, command, asked)
        if operation.method == "POST":
            return await self._change(command, asked)
        match operation.path:
            case "/openapi.json" | "/schema":
                return await asyncio.to_thread(description if command == "openapi.json" else _schema)
            case "/audit":
                return self._audit.last
            case "/whoami":
                return Identity(name=asked.caller.name, role=asked.caller.role)
            case path:
                return _VIEWS[path](self.status())

    # --------------------------------------------------------------------------------------------------------- changes

    async def _inquire(self, operation: Operation, command: str, asked: Asked) -> Any:
        body = _parsed(_INQUIRIES[command], asked)
        found = await self._gateway.order(f"{command} {body.model_dump_json()}", INQUIRY_SECONDS)
        assert operation.returns is not None  # noqa: S101 - see endpoints
        try:
            return operation.returns.validate_python(found)
        except ValidationError:  # its text has what was posted
            raise Refused(f"the process that answers {command} has sent a malformed answer") from None

    async def _change(self, command: str, asked: Asked) -> Any:
        match command:
            case "reload":
                _parsed(Nothing, asked)
                return await self._reload(asked, command, command)
            case "apply":
                given = {"text": _parsed(Posted, asked).text, "token": asked.token}
                return await self._reload(asked, command, f"apply {json.dumps(given)}")
            case "weight":
                weighed = _parsed(Weighed, asked)
                return await self._override(asked, command, weighed.target, f" {weighed.weight}")
            case "evacuate-site" | "readmit-site":
                return await self._evacuate(asked, command, _parsed(OfSite, asked).site)
            case "evacuate" | "standby" | "join":
                _parsed(Nothing, asked)
                return await self._move_addresses(asked, command)
            case _:
                return await self._override(asked, command, _parsed(Target, asked).name)

    async def _reload(self, asked: Asked, what: str, order: str) -> Reloaded:
        before = self._gateway.report().version
        try:
            answer = await self._gateway.order(order, RELOAD_SECONDS)
            history = answer.get("history")
            if not answer["accepted"]:
                named = version_text(answer["version"], history)
                why = f"reload refused; keeping {named}:\n{answer['problems']}"
                raise Refused(why, answer["version"], history, answer["problems"])
        except Refused as error:
            self._note(asked, (what, ""), (before, before), str(error))
            raise
        self._note(asked, (what, ""), (before, answer["version"]), "done")
        return Reloaded(version=answer["version"], history=history, warnings=tuple(answer.get("warnings", ())))

    async def _override(self, asked: Asked, command: str, target: str, more: str = "") -> Overridden:
        answer, report = await self._set(asked, command, target, more)
        of_target = tuple(one for one in servers(report) if target in {one.name, one.name.partition("/")[0]})
        return Overridden(problem=answer["problem"], servers=of_target, node=report.overrides.node)

    async def _evacuate(self, asked: Asked, command: str, site: str) -> EvacuationReport | None:
        _, report = await self._set(asked, command, site, key=SITE + site)
        return report.evacuation

    async def _set(
        self, asked: Asked, command: str, target: str, more: str = "", key: str = ""
    ) -> tuple[Mapping[str, Any], GatewayReport]:
        """Set something over the site file; the answer, and the report by which it is in force.

        `key`: what the overrides call the target, if it is another name.
        """
        if not target.isprintable() or " " in target:
            raise BadRequest("the target is the name of a backend, or backend/server")
        before = _set(self._gateway.report(), key or target)
        try:
            answer = await self._gateway.order(f"{command} {target}{more}", ORDER_SECONDS)
            await self._gateway.in_force(answer["serial"], ORDER_SECONDS)
        except Refused as error:
            self._note(asked, (command, target), (before, before), str(error))
            raise
        report = self._gateway.report()
        self._note(asked, (command, target), (before, _set(report, key or target)), answer["problem"] or "done")
        return answer, report

    async def _move_addresses(self, asked: Asked, command: str) -> HeartbeatReport:
        heartbeat = self._gateway.overheard()
        before = heartbeat.admin_state if heartbeat is not None else None
        try:
            if heartbeat is None:
                raise Refused("this gateway has no cluster, or its heartbeat process does not respond")
            # "evacuate" is the command of operators, "drain" the heartbeat's.
            report = await self._gateway.order_heartbeat("drain" if command == "evacuate" else command)
            if command == "join" and self._gateway.report().overrides.node is not None:
                answer = await self._gateway.order(f"ready {NODE}", ORDER_SECONDS)
                await self._gateway.in_force(answer["serial"], ORDER_SECONDS)
        except Refused as error:
            self._note(asked, (command, ""), (before, before), str(error))
            raise
        self._note(asked, (command, ""), (before, report.admin_state), "done")
        return report

    def _note(self, asked: Asked, what: tuple[str, str], states: tuple[Any, Any], result: str) -> None:
        command, target = what
        change = Change(
            at=time.time(), who=asked.caller.name, what=command, target="" if target == NODE else target,
            before=states[0], after=states[1], result=result,
        )  # fmt: skip
        self._audit.note(change)


@cache
def _schema() -> dict[str, Any]:
    return json_schema.schema()


def _set(report: GatewayReport, target: str) -> dict[str, Any] | None:
    """What commands have set for a target."""
    found = report.overrides.of.get(target)
    return asdict(found) if found is not None else None


def wanted(asked: Asked) -> Wanted:
    """What one who follows requests has asked for after the path. Raises BadRequest."""
    several = {"outcome", "side"}
    query = {name: values if name in several else values[-1] for name, values in asked.query.items()}
    follows = _valid(Followed, query)
    names = {*follows.outcome, *(name for name, side, _ in OUTCOMES if side in follows.side)}
    about = {"when": follows.when, "outcomes": sorted(names), "request_id": follows.id, "steps": follows.steps}
    try:
        return Wanted.parse(json.dumps({**about, "most": follows.most, "per_second": follows.per_second}))
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _parsed(kind: type[T], asked: Asked) -> T:
    return _valid(kind, asked.body)


def _valid(kind: type[T], given: Mapping[str, Any]) -> T:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{where}: {first['msg']}" if where else str(first["msg"])) from None


# --------------------------------------------------------------------------------------------------------- description

_REFERENCE: Final = "#/components/schemas/{model}"


def description() -> dict[str, Any]:
    """The API in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway", "version": __version__,
                 "description": "Status of a running gateway, and commands for it."},
        "servers": [{"url": ROOT}],
        "security": [{}, {"token": []}],
        "paths": _PATHS,
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }  # fmt: skip


def _described() -> tuple[dict[str, Any], dict[str, Any]]:
    """The paths and the schemas."""
    schemas: dict[str, Any] = {}

    def body(adapter: TypeAdapter[Any], mode: Any = "serialization") -> dict[str, Any]:
        schema = adapter.json_schema(mode=mode, ref_template=_REFERENCE)
        schemas.update(schema.pop("$defs", {}))
        if (title := schema.get("title")) is not None and schema.get("type") == "object":
            schemas[title] = schema
            schema = {"$ref": _REFERENCE.format(model=title)}
        return {"content": {JSON: {"schema": schema}}}

    paths: dict[str, Any] = {}
    failure = body(_FAILURE)
    for operation in OPERATIONS:
        answer = body(operation.returns) if operation.returns else {
            "content": {"text/event-stream": {"schema": {"type": "string"}}}
        }  # fmt: skip
        responses = {"200": {"description": "Done.", **answer},
                     "401": {"description": "A token is required.", **failure},
                     "403": {"description": "The role is not enough.", **failure}}  # fmt: skip
        found: dict[str, Any] = {"operationId": re.sub(r"\W", "_", operation.path[1:]), "summary": operation.summary,
                 "x-role": operation.role, "responses": responses}  # fmt: skip
        if operation.query is not None:
            parameters = operation.query.model_json_schema()["properties"]
            found |= {"parameters": [{"name": name, "in": "query", "schema": parameters[name]} for name in parameters]}
            responses["400"] = {"description": "A parameter is wrong.", **failure}
        if operation.takes is not None:
            found["requestBody"] = {"required": True, **body(TypeAdapter(operation.takes), "validation")}
            responses["400"] = {"description": "The body is wrong.", **failure}
            responses["415"] = {"description": f"The body is not {JSON}.", **failure}
        if operation.refuses:
            responses["409"] = {"description": "The gateway refuses it.", **failure}
        paths.setdefault(operation.path, {})[operation.method.lower()] = found
    return paths, schemas


_PATHS, _SCHEMAS = _described()
