"""How Location and cookies of answers are changed."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import HeaderValue, Model
from gateway.config.problem import Fault

_SEPARATES: Final = re.compile(r"[;,\s]")


def _attribute(value: dict[str, str]) -> dict[str, str]:
    for before, after in value.items():
        if not before:
            raise Fault("expected what the servers say", before, key=True)
        if found := _SEPARATES.search(after):
            raise Fault("an attribute of a cookie ends here: leave this character out", before, offset=found.start())
    return value


class CookieRewrite(Model):
    """Attributes of the cookies that servers set."""

    path: Annotated[dict[HeaderValue, HeaderValue], AfterValidator(_attribute)] = Field(
        {}, description="How Path begins, and what takes its place, as a template; the first that fits counts."
    )
    domain: Annotated[dict[HeaderValue, HeaderValue], AfterValidator(_attribute)] = Field(
        {}, description="The whole Domain, and what takes its place, as a template."
    )

    @model_validator(mode="after")
    def _some(self) -> "CookieRewrite":
        if not self.path and not self.domain:
            raise Fault("expected path or domain")
        return self
