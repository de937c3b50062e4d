"""The `tests:` of a site file: requests and their expected results."""

from ipaddress import ip_address
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.expression import moment
from gateway.config.fields import ClassName, Duration, Flag, Given, HeaderMatches, HeaderName, Model, Share, Text, Whole
from gateway.config.problem import Fault, kind

CLIENT: Final = "192.0.2.1"


def _moment(value: object) -> float:
    try:
        return moment(str(value))
    except ValueError:
        raise ValueError("expected a time such as 2026-12-24T18:00:00Z") from None


def client_address(value: str) -> str:
    """The address of a client as it is. Raises ValueError if it is none."""
    try:
        ip_address(value)
    except ValueError:
        raise ValueError(f"expected the address of a client such as {CLIENT}, not {kind(value)}") from None
    return value


def _request(value: str) -> str:
    method, _, url = value.strip().partition(" ")
    if not method.isupper() or not url.lstrip().startswith(("http://", "https://")):
        raise ValueError("expected a request such as GET https://www.example.com/path")
    return value


Load = Annotated[float, Field(ge=0)]
Moment = Annotated[
    float, PlainValidator(_moment), WithJsonSchema({"type": "string", "examples": ["2026-12-24T18:00:00Z"]})
]


Admission = Literal["go", "waits", "rate_limited", "class_full", "queue_full", "shed", "not_admitted"]


class Assumption(Model):
    """The state that rules see during a test. Default: the current time, no loads, every server up, no sessions."""

    time: Annotated[Moment | None, Given()] = Field(None, description="Current time; UTC if it has no zone.")
    load: dict[str, Load] = Field({}, description="load() by backend.")
    up: dict[str, Annotated[Whole, Field(ge=0)]] = Field({}, description="up() by backend.")
    sessions: Annotated[Whole, Field(ge=0)] = Field(0, description="sessions().")
    ticket: Literal["none", "live", "queued"] = Field("none", description="Ticket of the client.")
    live: Annotated[Whole, Field(ge=0)] = Field(0, description="Live sessions.")
    waiting: Annotated[Whole, Field(ge=0)] = Field(0, description="Clients in the queue.")
    place: Annotated[Whole, Field(ge=1)] = Field(1, description="Place of this client in the queue: ticket queued.")
    site_load: dict[str, Load] = Field({}, description="site_load() by site, including this one.")
    spill: dict[str, Share] = Field({}, description="Part of new clients that site: spill sends to each site.")
    client_cert: Flag = Field(
        default=False, description="The client shows a certificate that is valid here, where the frontend asks for one."
    )
    over: tuple[Text, ...] = Field((), description="Exhausted rates: names of classes, route-0 and so on.")
    in_flight: dict[str, Annotated[Whole, Field(ge=0)]] = Field({}, description="Requests at servers, by backend.")
    queued: dict[str, Annotated[Whole, Field(ge=0)]] = Field({}, description="Waiting requests, by backend.")
    limit: dict[str, Annotated[Whole, Field(ge=1)]] = Field(
        {}, description="Limit found by concurrency: auto, by backend. Default: 10 for each server."
    )
    programs: dict[str, dict[str, str]] = Field(
        {},
        description="What the program of a RewriteMap has for a key, by map; it is not run here. Default: no value.",
    )
    class_in_flight: Annotated[Whole, Field(ge=0)] = Field(0, description="Requests of its class at servers.")
    waited: Annotated[Duration, Field(ge=0)] = Field(
        "0s", validate_default=True, description="Wait of each request of its class in the last 100 ms."
    )


class Expected(Model):
    """The expected result of a test; fields that are omitted are not checked."""

    status: Annotated[Annotated[Whole, Field(ge=200, le=599)] | None, Given()] = Field(
        None, description="Status of the gateway's own response."
    )
    location: Annotated[Text | None, Given()] = Field(None, description="Target of the redirect.")
    backend: Annotated[Text | None, Given()] = Field(None, description="Backend that the request goes to.")
    server: Annotated[Text | None, Given()] = Field(None, description="Server that affinity selects.")
    class_: Annotated[ClassName | None, Given()] = Field(None, alias="class", description="Class of the request.")
    session: Annotated[Literal["live", "new", "waiting", "early", "asset", "full", "none"] | None, Given()] = Field(
        None, description="How the request gets its session; none: it needs none."
    )
    admission: Annotated[Admission | None, Given()] = Field(
        None, description="Result of rate limits, concurrency of its class and overload control."
    )
    site: Annotated[Text | None, Given()] = Field(None, description="Site that the client is redirected to.")
    path: Annotated[Text | None, Given()] = Field(None, description="Path as the server will see it.")
    query: Annotated[Text | None, Given()] = Field(None, description='Query as the server will see it; "" is none.')
    request_headers: HeaderMatches = Field((), description="Headers as the server will see them, as in match.")
    response_headers: HeaderMatches = Field(
        (), description="Headers of the gateway's own response, or added to the server's (false: removed)."
    )

    @model_validator(mode="after")
    def _something(self) -> "Expected":
        if not self.model_fields_set:
            raise Fault("expects nothing")
        return self


class SiteTest(Model):
    """A test."""

    request: Annotated[Text, AfterValidator(_request)] = Field(description="METHOD URL, with the whole URL.")
    headers: dict[HeaderName, Text] = Field({}, description="Headers to send.")
    client: Annotated[Text, AfterValidator(client_address)] = Field(CLIENT, description="Address of the client.")
    assume: Assumption = Field(default_factory=Assumption, description="State that expressions see.")
    expect: Expected = Field(description="Expected result.")
