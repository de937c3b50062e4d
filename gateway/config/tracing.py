"""`tracing:` of the site file: where spans of requests are sent, and of how many requests."""

from importlib.util import find_spec
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.config.fields import HeaderName, Model, Share, Text, text
from gateway.config.problem import Fault

PACKAGE: Final = "opentelemetry-proto"
EXTRA: Final = "otlp"
PATH: Final = "/v1/traces"
"""Where a collector takes spans, unless the URL has a path (OTLP 1.x, section OTLP/HTTP Request)."""
MOST_HEADERS: Final = 16


def _url(value: object) -> str:
    url = text(value, "the URL of a collector")
    example = "expected http://HOST:4318 or https://HOST/PATH"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{url} is not the URL of a collector: {example}") from None
    if parts.scheme in {"http", "https"} and port == 4317:
        raise ValueError("port 4317 takes OTLP over gRPC: the gateway speaks OTLP over HTTP, which is port 4318")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ValueError(f"{url} is not the URL of a collector: {example}")
    if " " in url or parts.query or parts.fragment or parts.username is not None or port == 0:
        raise ValueError(f"{url} is not the URL of a collector: {example}")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}{PATH}"


def _header(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("the value of a header consists of visible letters and spaces")
    return value


def _is_there() -> bool:
    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        return False


Url: TypeAlias = Annotated[
    str, BeforeValidator(_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})
]  # fmt: skip


class Tracing(Model):
    """Spans of requests, for a collector of OpenTelemetry."""

    otlp: Url = Field(
        description="URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; without a path, "
        f"spans go to {PATH}."
    )
    sample: Share = Field(
        0.01,
        description="Share of requests that are traced. Requests of trusted peers that come with a traceparent are "
        "traced as that says.",
        json_schema_extra={"default": "1%"},
    )
    service: Text = Field("gateway", description="The service.name of the spans.")
    headers: dict[HeaderName, Annotated[Text, AfterValidator(_header)]] = Field(
        {}, description='Headers for the collector, such as a token: {Authorization: "Bearer ${TOKEN}"}.'
    )

    @model_validator(mode="after")
    def _possible(self) -> "Tracing":
        if len(self.headers) > MOST_HEADERS:
            raise Fault(f"expected at most {MOST_HEADERS} headers", "headers")
        if not _is_there():
            raise Fault(
                f"the package {PACKAGE} is not installed: pip install 'eddie-gateway[{EXTRA}]', or leave tracing out",
                "otlp",
            )
        return self
