"""The listener of a running gateway for operators: where it is, and who may do what."""

from ipaddress import ip_address
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from gateway.config.fields import File, Given, ListenField, Model, Name, Text
from gateway.config.problem import Fault

AccessRole: TypeAlias = Literal["read", "operate", "configure"]
"""What an operator may do over HTTP; each role includes those before it."""


class AdminTls(Model):
    """TLS of the listener for operators (1.2 and later)."""

    cert: File = Field(description="Certificate followed by its intermediates, PEM.")
    key: File = Field(description="Private key, PEM, not encrypted; only its owner may read the file.")
    client_ca: Annotated[File | None, Given()] = Field(
        None,
        description="CAs (PEM) of the certificates by which operators with client_cert are known. Default: clients are "
        "not asked for a certificate.",
    )


class Operator(Model):
    """Someone, or a program, that may use the API and the page: known by a token, a client certificate, or either."""

    name: Name = Field(description="In the audit log.")
    token_file: Annotated[File | None, Given()] = Field(
        None, description="The token (Authorization: Bearer); only its owner may read the file."
    )
    client_cert: Annotated[Text | None, Given()] = Field(
        None,
        description="Common name or alternative name (DNS, e-mail, URI) of the client's certificate, which "
        "a CA of tls: client_ca has signed.",
    )
    role: AccessRole = Field(
        "operate",
        description="read: see everything; operate: also drain, reload and the like; configure: also see the site "
        "file, check others and apply them (with a token).",
    )

    @model_validator(mode="after")
    def _known(self) -> "Operator":
        if self.token_file is None and self.client_cert is None:
            raise Fault("token_file or client_cert is missing: how this operator is known")
        return self


class Admin(Model):
    """Access for operators to a running gateway."""

    sockets: File = Field(
        "/run/gateway",
        validate_default=True,
        description="Directory of the Unix sockets of `gateway status`, `gateway explain --live` and related commands, "
        "and of the API (api.sock).",
    )
    listen: Annotated[ListenField | None, Given()] = Field(
        None, description="Address of the page, the API, /metrics, /healthz and /readyz. Default: nothing listens."
    )
    token_file: Annotated[File | None, Given()] = Field(
        None,
        description="A token that may read, such as for Prometheus (Authorization: Bearer); only its owner may read "
        "the file. Unless the address is a loopback address, it or operators are required.",
    )
    tls: Annotated[AdminTls | None, Given()] = Field(None, description="HTTPS in the place of HTTP. Default: HTTP.")
    operators: tuple[Operator, ...] = Field((), description="Who else may use the API and the page, and for what.")
    without_token: Annotated[Literal["read", "operate"] | None, Given()] = Field(
        None,
        description="What a request without a token may do, on a loopback address only. Default: read, unless there is "
        "a token.",
    )

    @model_validator(mode="after")
    def _guarded(self) -> "Admin":
        if self.listen is None:
            for key in ("token_file", "tls", "operators", "without_token"):
                if getattr(self, key):
                    raise Fault(f"{key} needs listen", key, key=True)
            return self
        if not ip_address(self.listen.host).is_loopback:
            if self.without_token is not None:
                raise Fault(f"{self.listen} is reachable from other machines: a token is required there",
                            "without_token", key=True)  # fmt: skip
            if not self.guarded:
                raise Fault(
                    f"{self.listen} is reachable from other machines: set token_file or operators, or use 127.0.0.1",
                    "listen",
                )
        if self.tls is None or self.tls.client_ca is None:
            for i, operator in enumerate(self.operators):
                if operator.client_cert is not None:
                    raise Fault("client_cert needs tls: client_ca: whose certificates are valid",
                                "operators", i, "client_cert", key=True)  # fmt: skip
        names = [operator.name for operator in self.operators]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise Fault(f"there are two operators {name}", "operators", i, "name")
        return self

    @property
    def guarded(self) -> bool:
        """Whether there are operators that are known by a token or a certificate."""
        return self.token_file is not None or bool(self.operators)

    @property
    def open_to(self) -> AccessRole | None:
        """What a request without a token may do; None: nothing but the probes."""
        return self.without_token or (None if self.guarded else "read")
