"""The model of `affinity:`, by which a client comes back to its server."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import CookieName, Duration, File, Flag, Given, HeaderName, Model, Text, Whole
from gateway.config.problem import Fault

_ATTRIBUTES: Final = ("secure", "max_age", "same_site", "domain", "path", "http_only", "partitioned")
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}")
_PATH: Final = re.compile(r"/[!-:<-~]*")
"""RFC 6265 section 4.1.1: no semicolon, no control character."""


def _domain(value: str) -> str:
    if value.startswith("."):
        raise ValueError(f"write {value[1:]}: hosts below are included")
    if not _DOMAIN.fullmatch(value.lower()):
        raise ValueError("expected a domain such as example.com")
    return value.lower()


def _path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError("expected a path such as /shop/, without a semicolon")
    return value


class Affinity(Model):
    """Sends a client back to the server that served it before: by one of cookie, url, source, header."""

    cookie: Annotated[CookieName | None, Given()] = Field(
        None, description="Name of a cookie with the server, which the gateway sets and signs."
    )
    learn: Flag = Field(
        default=False,
        description="The servers set the cookie; the gateway adds a signed mark of the server to the value, removes "
        "that off again on the way back.",
    )
    url: Annotated[CookieName | None, Given()] = Field(
        None, description="Name of a parameter that names the server: ;NAME=server in the path, or ?NAME=server."
    )
    source: Annotated[Annotated[Whole, Field(ge=1, le=32)] | None, Given()] = Field(
        None, description="Clients of one network stay together: its bits of an IPv4 address; of IPv6 it is the /64."
    )
    header: Annotated[HeaderName | None, Given()] = Field(
        None, description="Requests with the same value of this header stay together."
    )
    key_file: Annotated[File | None, Given()] = Field(
        None,
        description="Key that signs the cookie, the same on all gateways; only its owner may read the file. "
        "Default: made from the key of cluster, or else from a key that the gateway keeps in state.",
    )
    secure: Flag = Field(default=False, description="Mark the cookie Secure: it is sent over https only.")
    max_age: Annotated[Duration | None, Given()] = Field(
        None, description="How long clients keep the cookie. Default: until the browser closes."
    )
    same_site: Literal["strict", "lax", "none"] = Field(
        "lax",
        description="Which requests from pages of other sites have the cookie: strict: none, lax: visits of a link, "
        "none: all, such as those of an embedded frame (needs secure).",
    )
    domain: Annotated[Annotated[Text, AfterValidator(_domain)] | None, Given()] = Field(
        None, description="Send the cookie to this domain and all hosts below. Default: to the host that set it."
    )
    path: Annotated[Text, AfterValidator(_path)] = Field(
        "/", description="Send the cookie with this path and those below it only."
    )
    http_only: Flag = Field(default=True, description="No script of a page can read the cookie.")
    partitioned: Flag = Field(
        default=False,
        description="Of an embedded frame, keep one cookie for each site that embeds it (CHIPS); needs secure.",
    )

    @property
    def attributes(self) -> str:
        """What follows the value in Set-Cookie (RFC 6265 section 4.1)."""
        parts = [f"Path={self.path}"]
        parts += [f"Domain={self.domain}"] if self.domain else []
        parts += ["HttpOnly"] if self.http_only else []
        parts.append(f"SameSite={self.same_site.capitalize()}")
        parts += ["Secure"] if self.secure else []
        parts += ["Partitioned"] if self.partitioned else []
        parts += [f"Max-Age={int(self.max_age)}"] if self.max_age is not None else []
        return "".join(f"; {part}" for part in parts)

    @model_validator(mode="after")
    def _one_kind(self) -> "Affinity":
        kinds = [name for name in ("cookie", "url", "source", "header") if getattr(self, name) is not None]
        if not kinds:
            raise Fault("affinity needs exactly one of cookie, url, source, header")
        if len(kinds) > 1:
            raise Fault(f"affinity by {kinds[0]} and by {kinds[1]} cannot be combined", kinds[1], key=True)
        if self.cookie is None:
            for name in ("learn", "key_file", *_ATTRIBUTES):
                if name in self.model_fields_set:
                    raise Fault(f"{name} needs cookie", name, key=True)
        if self.learn:
            for name in _ATTRIBUTES:
                if name in self.model_fields_set:
                    raise Fault(f"the servers set this cookie and its attributes: remove {name}", name, key=True)
        return self

    @model_validator(mode="after")
    def _cookie(self) -> "Affinity":
        if self.cookie and self.cookie.lower().startswith(("__secure-", "__host-")) and not (self.secure or self.learn):
            raise Fault(f"clients take a cookie named {self.cookie} only with secure: true", "cookie")
        if self.max_age is not None and self.max_age < 1:
            raise Fault("must be at least 1s", "max_age")
        if not self.secure and self.same_site == "none":
            raise Fault("clients refuse such a cookie without secure: true", "same_site")
        if not self.secure and self.partitioned:
            raise Fault("clients refuse such a cookie without secure: true", "partitioned")
        if self.cookie and self.cookie.lower().startswith("__host-"):
            if self.domain is not None:
                raise Fault(f"clients take a cookie named {self.cookie} only without a domain", "domain", key=True)
            if self.path != "/":
                raise Fault(f"clients take a cookie named {self.cookie} only with the path /", "path")
        return self
