import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.board import SERVERS, TRAFFIC
from gateway.config import CapacityError, Loaded, Site, Snapshot
from tests.config.conftest import BASE, Load

SITE = Site.model_validate({"routes": [{"respond": {}}]})


def loaded(**servers: int) -> Loaded:
    """A site whose servers are of backend b, by name, each at a port."""
    resolved = {("b", name): ("127.0.0.1", port) for name, port in servers.items()}
    return Loaded(Path("site.yaml"), SITE, {}, resolved, ())


def rows(snapshot: Snapshot) -> dict[str, int]:
    return {server: row for (_, server), row in snapshot.slots.items()}


def test_versions_and_rows_count_up() -> None:
    first = Snapshot.first(loaded(x=1, y=2))
    second = first.next(loaded(x=1, y=2))
    assert (first.version, second.version) == (1, 2)
    assert rows(first) == rows(second) == {"x": 0, "y": 1}


def test_rows_stay_with_their_server() -> None:
    first = Snapshot.first(loaded(x=1, y=2, z=3))
    assert rows(first.next(loaded(z=3, n=9, x=1))) == {"x": 0, "z": 2, "n": 3}


def test_another_place_is_another_server() -> None:
    first = Snapshot.first(loaded(x=1, y=2))
    assert rows(first.next(loaded(x=7, y=2))) == {"y": 1, "x": 2}


def test_rows_given_back_are_used_last_and_the_oldest_of_them_first() -> None:
    one = Snapshot.first(loaded(a=1, b=2, c=3), capacity=5)
    two = one.next(loaded(b=2, c=3))
    three = two.next(loaded(c=3))
    assert three.server_rows.freed == (0, 1)
    four = three.next(loaded(c=3, d=4, e=5))
    assert rows(four) == {"c": 2, "d": 3, "e": 4}
    five = four.next(loaded(d=4, e=5, f=6))
    assert rows(five) == {"d": 3, "e": 4, "f": 0}
    assert five.server_rows.freed == (1, 2)


def test_a_row_just_given_back_is_the_last_resort() -> None:
    first = Snapshot.first(loaded(a=1, b=2), capacity=2)
    assert rows(first.next(loaded(b=2, c=3))) == {"b": 1, "c": 0}


def test_too_many_servers() -> None:
    with pytest.raises(CapacityError, match="3 servers exceed the gateway's capacity of 2"):
        Snapshot.first(loaded(a=1, b=2, c=3), capacity=2)
    empty = Snapshot.first(loaded())
    assert (empty.server_rows.capacity, empty.traffic_rows.capacity) == (SERVERS, TRAFFIC)


def test_frontends_and_backends_keep_their_rows_by_name() -> None:
    def of(*backends: str) -> Loaded:
        site = Site.model_validate(
            {"routes": [{"respond": {}}], "backends": {name: {"servers": ["127.0.0.1:1"]} for name in backends}}
        )
        return Loaded(Path("site.yaml"), site, {}, {}, ())

    first = Snapshot.first(of("a", "b"))
    second = first.next(of("b", "c"))
    assert {name for _, name in first.traffic} == {"a", "b"}
    assert second.traffic["backend", "b"] == first.traffic["backend", "b"]
    assert second.traffic["backend", "c"] not in first.traffic.values()


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3)), min_size=1, max_size=12))
def test_no_row_is_shared_or_lost(history: list[dict[str, int]]) -> None:
    snapshot = Snapshot.first(loaded(), capacity=24)
    for servers in history:
        before, snapshot = snapshot, snapshot.next(loaded(**servers))
        assert snapshot.slots.keys() == snapshot.resolved.keys()
        taken = [*snapshot.slots.values(), *snapshot.server_rows.freed, *range(snapshot.server_rows.unused, 24)]
        assert sorted(taken) == list(range(24))
        for server in before.slots.keys() & snapshot.slots.keys():
            same = before.resolved[server] == snapshot.resolved[server]
            assert same == (before.slots[server] == snapshot.slots[server])
        new = snapshot.slots.keys() - before.slots.keys()
        assert not {snapshot.slots[server] for server in new} & set(before.slots.values())


def test_a_snapshot_travels_between_processes(load_text: Load) -> None:
    snapshot = Snapshot.first(load_text(f"{BASE}access_log: '-'\n"))
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
