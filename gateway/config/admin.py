"""The listener of a running gateway for operators: where it is, and who may do what."""

from ipaddress import ip_address
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from gateway.config.fields import File, Given, ListenField, Model, Name
from gateway.config.problem import Fault

AccessRole: TypeAlias = Literal["read", "operate", "configure"]
"""What an operator may do over HTTP; each role includes those before it."""


class Operator(Model):
    """Someone, or a program, that may use the API and the page."""

    name: Name = Field(description="In the audit log.")
    token_file: File = Field(description="The token (Authorization: Bearer); only its owner may read the file.")
    role: AccessRole = Field(
        "operate",
        description="read: see everything; operate: also drain, reload and the like; configure: also see the site "
        "file, check others and apply them.",
    )


class Admin(Model):
    """Access for operators to a running gateway."""

    sockets: File = Field(
        "/run/gateway",
        validate_default=True,
        description="Directory of the Unix sockets of `gateway status`, `gateway explain --live` and related commands.",
    )
    listen: Annotated[ListenField | None, Given()] = Field(
        None, description="Address of the page, the API, /metrics, /healthz and /readyz. Default: nothing listens."
    )
    token_file: Annotated[File | None, Given()] = Field(
        None,
        description="A token that may read, such as for Prometheus (Authorization: Bearer); only its owner may read "
        "the file. Unless the address is a loopback address, it or operators are required.",
    )
    operators: tuple[Operator, ...] = Field((), description="Who else may use the API and the page, and for what.")
    without_token: Annotated[Literal["read", "operate"] | None, Given()] = Field(
        None,
        description="What a request without a token may do, on a loopback address only. Default: read, unless there is "
        "a token.",
    )

    @model_validator(mode="after")
    def _guarded(self) -> "Admin":
        if self.listen is None:
            for key in ("token_file", "operators", "without_token"):
                if getattr(self, key):
                    raise Fault(f"{key} needs listen", key, key=True)
            return self
        if not ip_address(self.listen.host).is_loopback:
            if self.without_token is not None:
                raise Fault(f"{self.listen} is reachable from other machines: a token is required there",
                            "without_token", key=True)  # fmt: skip
            if not self.guarded:
                raise Fault(
                    f"{self.listen} is reachable from other machines: set token_file, or use 127.0.0.1", "listen"
                )
        names = [operator.name for operator in self.operators]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise Fault(f"there are two operators {name}", "operators", i, "name")
        return self

    @property
    def guarded(self) -> bool:
        """Whether there is a token."""
        return self.token_file is not None or bool(self.operators)

    @property
    def open_to(self) -> AccessRole | None:
        """What a request without a token may do; None: nothing but the probes."""
        return self.without_token or (None if self.guarded else "read")
