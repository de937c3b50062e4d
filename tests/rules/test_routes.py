"""The route table: the first route that holds, whatever the index inside looks like."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.routes import Route, RouteTable

Spec = tuple[str | None, tuple[str, ...], tuple[tuple[str, bool], ...]]


def table(*specs: Spec) -> RouteTable:
    return RouteTable([Route(i, scheme, hosts, paths, i) for i, (scheme, hosts, paths) in enumerate(specs)])


def found(routes: RouteTable, scheme: str, host: str, path: str) -> tuple[int, int] | None:
    result = routes.find(scheme, host.encode(), path.encode())
    return None if result is None else (result[0].action, result[1])


def test_order_decides_across_hosts_wildcards_and_the_rest() -> None:
    routes = table(
        (None, (), (("/first/", False),)),
        (None, ("*.example.com",), (("/wild/", False),)),
        (None, ("www.example.com",), ()),
        (None, ("*.example.com",), ()),
        (None, (), ()),
    )
    assert found(routes, "http", "www.example.com", "/first/x") == (0, 7)
    assert found(routes, "http", "www.example.com", "/wild/") == (1, 6)
    assert found(routes, "http", "WWW.Example.Com", "/") == (2, 0)
    assert found(routes, "http", "a.b.example.com", "/") == (3, 0)
    assert found(routes, "http", "example.com", "/wild/") == (4, 0)
    assert found(routes, "http", "", "/") == (4, 0)


def test_paths_are_prefixes_or_exact() -> None:
    routes = table((None, (), (("/a", True), ("/b/", False))))
    assert found(routes, "http", "x", "/a") == (0, 2)
    assert found(routes, "http", "x", "/a/") is None
    assert found(routes, "http", "x", "/b/c") == (0, 3)
    assert found(routes, "http", "x", "/b") is None


def test_schemes() -> None:
    routes = table(("https", (), ()), ("http", (), ()))
    assert found(routes, "https", "x", "/") == (0, 0)
    assert found(routes, "http", "x", "/") == (1, 0)


HOSTS = st.sampled_from(["a.x", "b.x", "c.b.x", "x", "*.x", "*.b.x", "*.c.b.x"])
PATHS = st.tuples(st.sampled_from(["/", "/p", "/p/q", "/q"]), st.booleans())
SPECS = st.lists(
    st.tuples(
        st.sampled_from([None, "http", "https"]),
        st.lists(HOSTS, max_size=2).map(tuple),
        st.lists(PATHS, max_size=2).map(tuple),
    ),
    max_size=8,
)


def holds(spec: Spec, scheme: str, host: str, path: str) -> bool:
    """What the site file's documentation says, spelt out."""
    wanted, hosts, paths = spec
    return (
        wanted in (None, scheme)
        and (not hosts or any(host.endswith(h[1:]) if h.startswith("*.") else host == h for h in hosts))
        and (not paths or any(path == text if exact else path.startswith(text) for text, exact in paths))
    )


@given(SPECS, st.sampled_from(["http", "https"]), st.sampled_from(["a.x", "b.x", "c.b.x", "d.c.b.x", "x", "y"]),
       st.sampled_from(["/", "/p", "/p/q", "/p/q/r", "/z"]))  # fmt: skip
def test_index_agrees_with_a_walk_through_the_list(specs: list[Spec], scheme: str, host: str, path: str) -> None:
    expected = next((i for i, spec in enumerate(specs) if holds(spec, scheme, host, path)), None)
    result = found(table(*specs), scheme, host, path)
    assert (None if result is None else result[0]) == expected
