"""Finds the running gateway that a command means, here or elsewhere, and asks its processes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import click

from gateway.cli.output import complain, fail

if TYPE_CHECKING:
    import socket

    from click.shell_completion import CompletionItem

    from gateway.cli.remote import Remote
    from gateway.process.tail import Wanted
    from gateway.reports import GatewayReport, HeartbeatReport
    from gateway.system.running import Running


ABOUT_LIMIT = 60.0
"""Seconds to wait for what a gateway says of itself; it may be in an upgrade."""

INQUIRY_LIMIT = 120.0
"""Seconds to wait for what a process of its own answers, such as an explanation."""

F = TypeVar("F", bound=Callable[..., Any])


class Tail(Protocol):
    """Requests that are followed; see TailConnection."""

    successor: Path | None

    @property
    def sockets(self) -> "list[socket.socket]":
        """Ready for reading when `read` has something to do."""
        ...

    def read(self) -> list[dict[str, Any]] | None:
        """The next lines; None: the gateway has ended."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Gateway(ABC):
    """A running gateway: what commands ask of it is the same wherever it is."""

    @property
    @abstractmethod
    def node(self) -> str:
        """The name of its node."""

    @property
    @abstractmethod
    def site(self) -> Path | str:
        """Its site file, or where it is."""

    @abstractmethod
    def order(self, what: str, seconds: float) -> dict[str, Any]:
        """What the supervisor answers. Raises running.NoAnswer."""

    @abstractmethod
    def answer(self, who: str, command: str = "status") -> dict[str, Any]:
        """What control or the heartbeat process answers. Raises process_socket.NoAnswer."""

    @abstractmethod
    def follow(self, wanted: "Wanted") -> Tail:
        """Follow requests. Raises NoTail."""

    @abstractmethod
    def again(self) -> "Gateway":
        """The one that runs in its place by now, after an upgrade. Raises running.NotFound."""

    def report(self) -> "GatewayReport":
        """What control reports on servers. Raises OSError without an answer."""
        from gateway.admin import report_json  # noqa: PLC0415
        from loadagent.printable import printable_values  # noqa: PLC0415

        answer = self.answer("control")
        try:
            return report_json.gateway(printable_values(answer))
        except report_json.Unreadable as error:
            raise OSError(f"the answer of control cannot be read: {error}") from None

    def heartbeat(self, command: str) -> "HeartbeatReport":
        """The report of the heartbeat process after a command. Raises OSError without one."""
        from gateway.admin import report_json  # noqa: PLC0415
        from loadagent.printable import printable_values  # noqa: PLC0415

        answer = self.answer("heartbeat", command)
        try:
            return report_json.heartbeat(printable_values(answer))
        except report_json.Unreadable as error:
            raise OSError(f"the answer of the heartbeat process cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class Local(Gateway):
    """One on this machine, asked over its Unix sockets."""

    running: "Running"

    def __str__(self) -> str:
        return str(self.running)

    @property
    def node(self) -> str:
        """The name of its node."""
        return self.running.node

    @property
    def site(self) -> Path:
        """Its site file."""
        return self.running.site

    @property
    def pid(self) -> int:
        """The process id of its supervisor."""
        return self.running.pid

    def order(self, what: str, seconds: float) -> dict[str, Any]:
        """What the supervisor answers. Raises running.NoAnswer."""
        return self.running.ask(what, seconds)

    def answer(self, who: str, command: str = "status") -> dict[str, Any]:
        """What control or the heartbeat process answers. Raises process_socket.NoAnswer."""
        from gateway.system.process_socket import ask  # noqa: PLC0415

        return ask(self.running.sockets, command, who, self.running.pid)

    def follow(self, wanted: "Wanted") -> Tail:
        """Follow requests. Raises NoTail."""
        from gateway.process.tail_connection import TailConnection  # noqa: PLC0415

        return TailConnection(self.running.socket, wanted)

    def again(self) -> "Local":
        """The one that runs with its site file by now. Raises running.NotFound."""
        from gateway.system import running  # noqa: PLC0415

        return Local(running.find(str(self.running.site)))


# ---------------------------------------------------------------------------------------------------------- the options

REMOTE_KEY = "gateway.remote"


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    context.meta.setdefault(REMOTE_KEY, {})[parameter.name] = value


def remote(command: F) -> F:
    """Let a command have the options for a gateway on another machine."""
    file = click.Path(path_type=Path, dir_okay=False)
    options = [
        click.option("--admin", metavar="URL", expose_value=False, callback=_keep,
                     help="A gateway by the URL of its admin listener, such as https://gw1.example.com:8900 or "
                     "unix:/run/gateway/api.sock."),
        click.option("--token-file", type=file, expose_value=False, callback=_keep, help="With --admin: the token."),
        click.option("--ca", type=file, expose_value=False, callback=_keep,
                     help="With --admin: PEM file of the authorities to trust. Default: those of this machine."),
        click.option("--client-cert", type=file, expose_value=False, callback=_keep,
                     help="With --admin: PEM file of a certificate to show, with its key or with --client-key."),
        click.option("--client-key", type=file, expose_value=False, callback=_keep, help="Its private key."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def elsewhere(target: object = None) -> "Remote | None":
    """The gateway of --admin, None without; ends the program if there is a `target`, too, or it cannot be used."""
    given = click.get_current_context().meta.get(REMOTE_KEY, {})
    url = given.get("admin")
    if url is None:
        if any(value is not None for value in given.values()):
            raise click.UsageError("--token-file, --ca, --client-cert and --client-key go with --admin")
        return None
    if target:
        raise click.UsageError("--admin names the gateway: leave out the other name")
    from gateway.cli.remote import Access, NotUsable, Remote  # noqa: PLC0415

    access = Access(url, given["token_file"], given["ca"], given["client_cert"], given["client_key"])
    try:
        access.connect(1.0)
        if access.fields and access.exposed:
            complain(f"warning: the token goes to {url} unencrypted: let the listener have tls, and say https")
    except NotUsable as error:
        raise click.UsageError(str(error)) from None
    return Remote(access)


def complete_gateway(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """For shells: the site files of running gateways, and other files."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from gateway.system import running  # noqa: PLC0415

    sites = [CompletionItem(str(gateway.site), help=f"process {gateway.pid}") for gateway in running.found()]
    return [item for item in sites if item.value.startswith(incomplete)] or [CompletionItem(incomplete, type="file")]


TARGET_HERE = click.argument("target", required=False, metavar="[SITE|PID|PIDFILE]", shell_complete=complete_gateway)
"""A running gateway by its site file, which is not read, by its process or by its PID file."""


def TARGET(command: F) -> F:  # noqa: N802 - used as the options are
    """The same, or one on another machine."""
    return TARGET_HERE(remote(command))


def TARGETS(command: F) -> F:  # noqa: N802
    """The same for several."""
    several = click.argument(
        "targets", nargs=-1, required=False, metavar="[SITE|PID|PIDFILE]...", shell_complete=complete_gateway
    )
    return several(remote(command))


def gateway_option(text: str) -> Callable[[F], F]:
    """The same as an option; `text` is its help."""
    option = click.option(
        "-g", "--gateway", "target", metavar="SITE|PID|PIDFILE", shell_complete=complete_gateway, help=text
    )
    return lambda command: option(remote(command))


GATEWAY = gateway_option("The gateway; without it, the only one that runs on this machine.")


# -------------------------------------------------------------------------------------------------------------- finding


def find(target: str | None) -> Gateway:
    """Return the running gateway that is meant; ends the program if there is none, or more than one."""
    return elsewhere(target) or find_here(target)


def find_here(target: str | None) -> Local:
    """Return the one on this machine that `target` means; ends the program if there is none, or more than one."""
    from gateway.system import running  # noqa: PLC0415

    try:
        return Local(running.find(target))
    except running.NotFound as error:
        fail(str(error))


def find_all(targets: tuple[str, ...]) -> list[Gateway]:
    """Return the running gateways that are meant, each once; without a target, the only one that runs."""
    if (other := elsewhere(targets)) is not None:
        return [other]
    gateways = [find_here(target) for target in targets or (None,)]
    return list({gateway.pid: gateway for gateway in gateways}.values())


def order(gateway: Gateway, what: str, seconds: float) -> dict[str, Any]:
    """Return what the supervisor answers; ends the program if it does not, or cannot do it."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.order(what, seconds)
    except NoAnswer as error:
        fail(str(error))
    if "error" in answer:
        fail(f"{what} failed, and the gateway ({gateway}) goes on: {answer['error']}")
    return answer


def ask_control(gateway: Gateway) -> "GatewayReport":
    """What control reports on servers; ends the program without an answer."""
    try:
        return gateway.report()
    except OSError as error:
        fail(str(error))


def ask_heartbeat(gateway: Gateway, command: str) -> "HeartbeatReport":
    """Return the report of the heartbeat of a gateway after a command; ends the program without one."""
    try:
        return gateway.heartbeat(command)
    except OSError as error:
        fail(str(error))


def ask_api(gateway: "Remote", method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the API answers that is only there; ends the program if it does not, or refuses it."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        found = gateway.call(method, path, body, INQUIRY_LIMIT)
    except NoAnswer as error:
        fail(str(error))
    if found is not None and "error" in found:
        fail(f"{gateway}: {found['error']}", found)
    return _Answer(gateway, found or {})


class _Answer(dict[str, Any]):
    """An answer of the API; a key that is not in it ends the program: something else has answered."""

    def __init__(self, gateway: "Remote", found: dict[str, Any]) -> None:
        super().__init__(found)
        self._gateway = gateway

    def __missing__(self, key: str) -> NoReturn:
        fail(f"{self._gateway} is not the admin API of a gateway of this version: its answer has no {key}")
