"""Routes whose requests go to several backends, by percentage."""

from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.fields import CookieName, Given, Model, PositiveDuration, Share, Text
from gateway.config.problem import Fault, kind

_WHOLE: Final = 1e-6
"""How far a sum of shares may be from 100 %, for the rounding of numbers."""

_SHARES: Final = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$"},
    "examples": [{"canary": "5%", "app": "95%"}],
}


def _shares(value: object) -> object:
    if not isinstance(value, dict):
        expected = "backends with their shares, such as {canary: 5%, app: 95%}"
        raise ValueError(f"expected {expected}, not {kind(value)}")  # noqa: TRY004 - pydantic takes ValueError
    if not value:
        raise ValueError("expected at least one backend with its share, such as {canary: 5%, app: 95%}")
    if all(type(weight) is int for weight in value.values()) and (total := sum(map(abs, value.values()))):
        shares = ", ".join(f"{name}: {weight * 100 / total:g}%" for name, weight in value.items())
        raise ValueError(f"shares are parts of 100%: write {{{shares}}}")
    return value


class Split(Model):
    """Backends that share the requests of a route."""

    shorthand: ClassVar = {**_SHARES, "description": "The backends, with their shares; each request is drawn anew."}

    to: Annotated[dict[Text, Share], BeforeValidator(_shares)] = Field(
        description="Backends, each with its share of the requests; together 100%. Clients that a growing share gets "
        "come from the backends after it."
    )
    cookie: Annotated[CookieName | None, Given()] = Field(
        None, description="Name of a cookie that the gateway sets, by which a client stays with its backend."
    )
    max_age: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="How long clients keep the cookie. Default: until the browser is closed."
    )
    by: Annotated[Text | None, Given()] = Field(
        None,
        description="Template of a key: requests with the same key go to one backend; without a key they are drawn.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict) and not isinstance(value.get("to"), dict) and not {"cookie", "by"} & value.keys():
            return {"to": value}
        return value

    @model_validator(mode="after")
    def _whole(self) -> "Split":
        total = sum(self.to.values())
        if abs(total - 1) > _WHOLE:
            raise Fault(f"the shares add up to {total * 100:g}%: together they must be 100%")
        if self.cookie is not None and self.by is not None:
            raise Fault("cookie and by cannot be combined", "by", key=True)
        if self.max_age is not None and self.cookie is None:
            raise Fault("max_age needs cookie", "max_age", key=True)
        return self

    @property
    def text(self) -> str:
        """The shares, for people."""
        return ", ".join(f"{name} {share * 100:g}%" for name, share in self.to.items())
