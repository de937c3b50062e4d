"""`tracing:` of the site file."""

import pytest

from gateway.config import tracing
from tests.config.conftest import BASE, Load, Refuse


def test_there_is_none_by_default(load_text: Load) -> None:
    assert load_text(BASE).site.tracing is None


@pytest.mark.parametrize("url, used", [
    ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
    ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
    ("https://collector.example.com/otlp", "https://collector.example.com/otlp"),
    ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
])  # fmt: skip
def test_where_spans_go(load_text: Load, url: str, used: str) -> None:
    found = load_text(f'{BASE}tracing: {{otlp: "{url}"}}\n').site.tracing
    assert found is not None
    assert (found.otlp, found.sample, found.service) == (used, 0.01, "gateway")


@pytest.mark.parametrize("bad", [
    "collector:4318", "grpc://a:1", "http://", "http:///v1/traces", "http://a b", "http://a:99999", "http://a:0",
    "http://user:secret@a", "http://a/?b=c", "http://a/#b", "http://\xe4",
])  # fmt: skip
def test_other_urls_are_refused(refuse: Refuse, bad: str) -> None:
    refuse(f'{BASE}tracing: {{otlp: »"{bad}"}}\n', "is not the URL of a collector")


def test_the_port_of_grpc_is_told(refuse: Refuse) -> None:
    refuse(f'{BASE}tracing: {{otlp: »"http://a:4317"}}\n', "which is port 4318")


@pytest.mark.parametrize("text, share", [("100%", 1.0), ("0.1%", 0.001), ("0%", 0.0)])
def test_shares(load_text: Load, text: str, share: float) -> None:
    found = load_text(f'{BASE}tracing: {{otlp: "http://a", sample: {text}}}\n').site.tracing
    assert found is not None
    assert found.sample == share


@pytest.mark.parametrize("text", ["101%", "-1%", "often"])
def test_other_shares_are_refused(refuse: Refuse, text: str) -> None:
    refuse(f'{BASE}tracing: {{otlp: "http://a", sample: »{text}}}\n', "expected")


def test_headers(load_text: Load, refuse: Refuse) -> None:
    found = load_text(f'{BASE}tracing: {{otlp: "http://a", headers: {{Authorization: Bearer x}}}}\n').site.tracing
    assert found is not None
    assert found.headers == {"Authorization": "Bearer x"}
    refuse(f'{BASE}tracing: {{otlp: "http://a", headers: {{A: »"b\\nc"}}}}\n', "visible letters")
    many = ", ".join(f"H{number}: x" for number in range(17))
    refuse(f'{BASE}tracing: {{otlp: "http://a", headers: »{{{many}}}}}\n', "at most 16 headers")


def test_without_the_package(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(tracing, "find_spec", missing)
    refuse(f'{BASE}tracing: {{otlp: »"http://a"}}\n', "pip install 'eddie-gateway[otlp]'")
