"""The route table: the first route that holds, whatever the index inside looks like."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules.routes import Route, RouteTable
from tests.rules.views import view

Spec = tuple[str | None, tuple[str, ...], tuple[tuple[str, str], ...]]


def table(*specs: Spec) -> RouteTable:
    return RouteTable([Route(i, scheme, hosts, paths, str(i)) for i, (scheme, hosts, paths) in enumerate(specs)])


def found(routes: RouteTable, scheme: str, host: str, path: str) -> int | None:
    result = routes.find(view(url=f"{scheme}://{host}{path}"))
    return None if result is None else int(str(result))


def test_order_decides_across_hosts_wildcards_and_the_rest() -> None:
    routes = table(
        (None, (), (("/first/", "prefix"),)),
        (None, ("*.example.com",), (("/wild/", "prefix"),)),
        (None, ("www.example.com",), ()),
        (None, ("*.example.com",), ()),
        (None, (), ()),
    )
    assert found(routes, "http", "www.example.com", "/first/x") == 0
    assert found(routes, "http", "www.example.com", "/wild/") == 1
    assert found(routes, "http", "WWW.Example.Com", "/") == 2
    assert found(routes, "http", "www.example.com.", "/") == 2
    assert found(routes, "http", "a.b.example.com", "/") == 3
    assert found(routes, "http", "example.com", "/wild/") == 4


def test_paths_are_prefixes_exact_or_patterns() -> None:
    routes = table(
        (None, (), (("/a", "exact"), ("/b/", "prefix"))), (None, (), (("^/c/[0-9]+$", "regex"), ("d$", "regex")))
    )
    assert found(routes, "http", "x", "/a") == 0
    assert found(routes, "http", "x", "/a/") is None
    assert found(routes, "http", "x", "/b/c") == 0
    assert found(routes, "http", "x", "/b") is None
    assert found(routes, "http", "x", "/c/77") == 1
    assert found(routes, "http", "x", "/c/77x") is None
    assert found(routes, "http", "x", "/c/d") == 1


def test_schemes() -> None:
    routes = table(("https", (), ()), ("http", (), ()))
    assert found(routes, "https", "x", "/") == 0
    assert found(routes, "http", "x", "/") == 1


HOSTS = st.sampled_from(["a.x", "b.x", "c.b.x", "x", "*.x", "*.b.x", "*.c.b.x"])
PATHS = st.tuples(
    st.sampled_from(["/", "/p", "/p/q", "/q", "/p/", "/pq", "/p/q/r"]), st.sampled_from(["exact", "prefix"])
)
SPECS = st.lists(
    st.tuples(
        st.sampled_from([None, "http", "https"]),
        st.lists(HOSTS, max_size=2).map(tuple),
        st.lists(PATHS, max_size=3).map(tuple),
    ),
    max_size=10,
)


def holds(spec: Spec, scheme: str, host: str, path: str) -> bool:
    """What the site file's documentation says, spelt out."""
    wanted, hosts, paths = spec
    return (
        wanted in (None, scheme)
        and (not hosts or any(host.endswith(h[1:]) if h.startswith("*.") else host == h for h in hosts))
        and (not paths or any(path == text if kind == "exact" else path.startswith(text) for text, kind in paths))
    )


@pytest.mark.slow
@given(SPECS, st.sampled_from(["http", "https"]), st.sampled_from(["a.x", "b.x", "c.b.x", "d.c.b.x", "x", "y"]),
       st.sampled_from(["/", "/p", "/p/q", "/p/q/r", "/z", "/pqr"]))  # fmt: skip
@settings(max_examples=400)
def test_index_agrees_with_the_list_and_says_why_it_passes_over(
    specs: list[Spec], scheme: str, host: str, path: str
) -> None:
    expected = next((i for i, spec in enumerate(specs) if holds(spec, scheme, host, path)), None)
    routes = table(*specs)
    assert found(routes, scheme, host, path) == expected
    _, trace = routes.explain(view(url=f"{scheme}://{host}{path}"))
    walked = [(route.index, why) for route, why, _, _ in trace["routes"]]
    assert [index for index, why in walked if why is None] == ([] if expected is None else [expected])
    assert len(walked) == (len(specs) if expected is None else expected + 1)


def test_many_nested_prefixes_lead_to_the_first() -> None:
    specs: list[Spec] = [(None, (), (("/" + "a" * n, "prefix"),)) for n in range(2000, 0, -1)]
    routes = table(*specs)
    assert found(routes, "http", "x", "/" + "a" * 2000) == 0
    assert found(routes, "http", "x", "/" + "a" * 1500 + "b") == 500
    assert found(routes, "http", "x", "/b") is None
