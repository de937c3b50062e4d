"""Answers that are kept: the right one for each name and type, in turn, and none beyond the room there is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.balance.site_shares import SiteState
from gateway.dns.kept import Answer, Kept
from gateway.dns.responder import Responder
from tests.dns.zones import KEY, ask, lines, query, said, table

NAMES = st.lists(st.binary(min_size=1, max_size=20).map(bytes.lower), max_size=5).map(
    lambda labels: b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
)


def answer(number: int) -> Answer:
    return Answer(number % 16, b"%d" % number, 1, 0, number=number)


@given(st.dictionaries(st.tuples(NAMES, st.sampled_from([1, 28, 65]), st.booleans()), st.integers(0, 2**32 - 1)))
def test_each_question_has_its_own_answer(wanted: dict[tuple[bytes, int, bool], int]) -> None:
    kept = Kept()
    for (name, kind, signed), number in wanted.items():
        assert kept.get(name, kind, signed=signed) is None
        assert kept.put(name, kind, [answer(number)], signed=signed)
    for (name, kind, signed), number in wanted.items():
        assert kept.get(name.upper(), kind, signed=signed) == (number % 16, number, 1, b"%d" % number)
    assert kept.count == len(wanted)
    kept.clear()
    assert not any(kept.get(name, kind, signed=signed) for name, kind, signed in wanted)


def test_many_names_and_the_end_of_the_room() -> None:
    kept = Kept(1 << 20)
    names = [b"\6%06d\0" % i for i in range(20_000)]
    there = [name for i, name in enumerate(names) if kept.put(name, 1, [answer(i)])]
    assert len(there) == kept.count == (1 << 20) // 64 - 1
    for i, name in enumerate(names):
        assert (kept.get(name, 1) is not None) is (i < len(there))
    assert kept.put(names[0], 1, [answer(7)]) is False, "full"
    kept.clear()
    assert kept.put(names[0], 1, [answer(7)])


def test_answers_in_turn_until_they_are_forgotten() -> None:
    kept = Kept()
    name = b"\3www\0"
    kept.put(name, 1, [answer(i) for i in (1, 2, 1)])
    kept.put(name, 28, [answer(9)])
    assert [found[1] for _ in range(7) if (found := kept.get(name, 1))] == [1, 2, 1, 1, 2, 1, 1]
    kept.forget_turns()
    assert kept.get(name, 1) is None
    assert kept.get(name, 28) is not None
    kept.put(name, 1, [answer(i) for i in (3, 4, 5)])
    assert [found[1] for _ in range(3) if (found := kept.get(name, 1))] == [3, 4, 5]
    kept.put(name, 1, [answer(i) for i in (6, 7)])
    assert [found[1] for _ in range(3) if (found := kept.get(name, 1))] == [6, 7, 6]
    assert kept.count == 2


def test_what_was_found_once_is_not_looked_up_again() -> None:
    names = table()
    looked_up: Counter[tuple[bytes, int]] = Counter()

    def find(
        name: bytes,
        kind: int,
        client: bytes,
        source: int,
        signed: bool,  # noqa: FBT001
        sender: bool,  # noqa: FBT001
    ) -> tuple[Answer, int, int]:
        looked_up[name, kind] += 1
        return names.find(name, kind, client, source, signed=signed, sender=sender)

    of = Responder(find, KEY)
    for _ in range(500):
        said(of, "mAil.example.org")
        said(of, "mail.example.org", "AAAA")
        said(of, "shop.example.org")
        said(of, "x.w.example.org")
        said(of, "www.example.com")
    asked = {name: n for (name, _), n in looked_up.items()}
    assert asked == {
        b"\4mail\7example\3org\0": 1,
        b"\4shop\7example\3org\0": 120,
        b"\1x\1w\7example\3org\0": 500,  # clients make up such names
        b"\3www\7example\3com\0": 500,  # depends on the client
    }
    assert looked_up[b"\4mail\7example\3org\0", 28] == 1
    names.move({"mel": SiteState(up=False)}, 0.0)
    of.forget_turns()
    assert lines(ask(of, query("shop.example.org"))) == ["shop.example.org. 5 IN A 198.51.100.11"]


def test_several_addresses_of_a_site_take_turns_as_often_as_before() -> None:
    zones = {
        "a.example": {"ns": "ns.example", "sites": {"x": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "y": "192.0.2.9"}}
    }
    of = Responder(table(zones).find, KEY)
    first = [Counter(lines(said(of, "a.example"))[0].split()[-1] for _ in range(360)) for _ in range(3)]
    assert first == [{"192.0.2.1": 60, "192.0.2.2": 60, "192.0.2.3": 60, "192.0.2.9": 180}] * 3
