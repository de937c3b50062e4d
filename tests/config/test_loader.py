import gc
import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ConfigError, explain, load
from tests.config.conftest import BASE, Load, Refuse, no_names

ROUTES = 10_000


def test_where_servers_are(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    servers = '["10.0.0.1:1", "[2001:DB8:0::1]:2", "App.internal:3", "unix:/s",{name: n, address: "app.internal:4"}]'
    path.write_text(f"frontends: [{{listen: '127.0.0.1:80'}}]\nbackends: {{app: {{servers: {servers}}}}}\n")
    loaded = load(path, lambda _, hosts: {host: {"app.internal": "192.0.2.7"}[host] for host in hosts})
    assert loaded.path == path
    assert loaded.resolved == {
        ("app", "10.0.0.1:1"): ("10.0.0.1", 1),
        ("app", "2001:db8::1:2"): ("2001:db8::1", 2),
        ("app", "app.internal:3"): ("192.0.2.7", 3),
        ("app", "unix:s"): "/s",
        ("app", "n"): ("192.0.2.7", 4),
    }


def test_a_name_without_an_address(refuse: Refuse) -> None:
    refuse(
        BASE.replace('"127.0.0.1:1"', '»"a.example:1", {address: »"b.example:1"}'),
        "cannot resolve a.example: no such name: a.example",
        "cannot resolve b.example",
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"site\.yaml:1:1: cannot read it: no such file or directory"):
        load(tmp_path / "site.yaml")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "site.yaml").open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    with pytest.raises(ConfigError, match="larger than 16MiB"):
        load(tmp_path / "site.yaml")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_bytes(b"a: 1\nb: \xc3\xa9\xff\n")
    with pytest.raises(ConfigError, match=r"site\.yaml:2:5: not UTF-8"):
        load(tmp_path / "site.yaml")


def test_a_byte_order_mark_is_skipped(load_text: Load) -> None:
    assert load_text(f"\ufeff{BASE}").site.backends.keys() == {"app"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: [b\n»", "not valid YAML: did not find expected"),
        ("»[1, 2]\n", "expected a mapping: frontends, backends, routes"),
        ("»just text\n", "expected a mapping"),
        (f"{BASE}»---\n", "a second document starts here"),
    ],
)
def test_not_a_site_at_all(refuse: Refuse, text: str, message: str) -> None:
    refuse(text, message)


def test_a_key_given_twice(refuse: Refuse) -> None:
    refuse(f"{BASE}drain: 1s\n»drain: 2\n", "drain is given twice (first on line 3)")


def test_problems_of_shared_parts_show_where_the_part_is_written(refuse: Refuse) -> None:
    refuse(
        "frontends: [{listen: '127.0.0.1:80'}]\n"
        "backends:\n"
        "  a: &a {servers: ['1.2.3.4:5'], timeouts: {connect: »2}}\n"
        "  b: {<<: *a, balance: round-robin}\n"
        "routes: [{respond: {}}]\n",
        "a duration needs a unit: 2s?",
    )


def test_loading_leaves_the_collector_as_it_was(load_text: Load) -> None:
    load_text(BASE)
    assert gc.isenabled()
    gc.disable()
    try:
        load_text(BASE)
        assert not gc.isenabled()
    finally:
        gc.enable()


def many(route: str) -> str:
    return f"{BASE}routes:\n" + "".join(f"  - {route.format(i)}\n" for i in range(ROUTES))


@pytest.mark.slow
def test_a_large_file_takes_linear_time(load_text: Load) -> None:
    before = time.process_time()
    loaded = load_text(many("{{match: {{host: h{0}.example.com, path: /p{0}/}}, backend: app}}"))
    # Measured 0.3 s; anything quadratic takes minutes.
    assert time.process_time() - before < 10
    assert len(loaded.site.routes) == ROUTES


@pytest.mark.slow
def test_a_large_file_of_mistakes_takes_linear_time(load_text: Load) -> None:
    before = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_text(many("{{match: {{path: p{0}}}, bakend: app, backend: ap}}"))
    assert time.process_time() - before < 30
    assert len(caught.value.problems) == 3 * ROUTES


KEYS = sorted({key for keys in explain.vocabulary().values() for key in keys} | {"app", "oops", "502"})
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 600)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.sampled_from(["", "x", "10s", "1KiB", "127.0.0.1:80", "/a", "{host}", "a.com", "app", "~(", "off"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
PARTS = sorted(explain.vocabulary()[""])
MAPPINGS = sorted(explain.vocabulary().keys() - {""})


@st.composite
def sites(draw: st.DrawFn) -> dict[str, object]:
    """Mappings where the vocabulary has them, filled with keys and values that may fit or not."""
    site: dict[str, object] = {"frontends": [{"listen": "127.0.0.1:80"}]}
    site |= draw(st.dictionaries(st.sampled_from(PARTS), values, max_size=3))
    top, *names = draw(st.sampled_from(MAPPINGS)).split(".")
    inner: object = draw(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
    for depth, name in reversed([*enumerate(names)]):
        if name != "*":
            inner = {name: inner}
        elif top == "backends" and depth == 0:
            inner = {"app": inner}
        else:
            inner = [inner]
    return {**site, top: inner}


@pytest.mark.slow
@given(sites())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
def test_any_data_loads_or_is_refused_in_plain_words(tmp_path: Path, site: dict[str, object]) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps(site))
    try:
        load(path, no_names)
    except ConfigError as error:
        said = str(error)
    else:
        said = ""
    for word in ("Input", "Value error", "validation", "is not allowed here", "pydantic", "None", "\n\n"):
        assert word not in said


def test_a_mistake_that_comes_a_thousand_times_fits_on_a_screen(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("routes:\n" + "  - {backend: app, weight: 3}\n" * 1000)
    with pytest.raises(ConfigError) as caught:
        load(site)
    lines = str(caught.value).splitlines()
    assert "frontends is missing" in lines[0]
    assert lines[1].endswith(":2:15: there is no backend app")
    assert "weight: it belongs in a server" in lines[2]
    assert lines[50:] == ["and 1,951 more"]
