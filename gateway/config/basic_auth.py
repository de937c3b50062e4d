"""The model of `basic_auth:`, users with passwords (RFC 7617)."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from gateway.config.fields import File, Flag, Model, OneOrMany, Text
from gateway.config.htpasswd import LONGEST_USER


def _realm(value: str) -> str:
    if not value or not value.isprintable() or not value.isascii():
        raise ValueError("expected a name of visible ASCII characters, which browsers show")
    return value


def _user(value: str) -> str:
    if not value or ":" in value or not value.isprintable():
        raise ValueError("expected the name of a user, without a colon")
    if len(value.encode()) > LONGEST_USER:
        raise ValueError(f"longer than {LONGEST_USER} bytes")
    return value


class BasicAuth(Model):
    """Only clients that log in as one of these users go on; others get 401."""

    shorthand: ClassVar = {"type": "string", "description": "The file alone: all of its users."}

    file: File = Field(
        description="Users and hashes of their passwords, as `htpasswd -B` writes them (bcrypt, SHA, apr1 or crypt); "
        "taken up when it changes."
    )
    realm: Annotated[Text, AfterValidator(_realm)] = Field(
        "restricted", description="Name that browsers show, and for which they remember a password."
    )
    users: Annotated[tuple[Annotated[Text, AfterValidator(_user)], ...], OneOrMany()] = Field(
        (), description="Those of the file that may pass. Default: all."
    )
    forward: Flag = Field(default=True, description="Servers get the Authorization header, too; false: it is removed.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value
