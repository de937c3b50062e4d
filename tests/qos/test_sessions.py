"""Sessions and their queue: never more than there may be, in order, whatever clients do with their tickets."""

import itertools
import mmap
import os
import random
import signal
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qos.sessions import MOST_PLACES, RING, SLOTS, UNCONFIRMED, SessionTable, size

NOW = 10_000.0
STEP = 0.3  # seconds: longer than from one census to the next
Ticket = tuple[str, int, int, int]
SMALL = {"slots": 2048, "ring": 4096}


def table(secret: bytes = b"0123456789abcdef", memory: Any = None) -> SessionTable:
    return SessionTable(bytearray(size(**SMALL)) if memory is None else memory, secret, **SMALL)


class Client:
    """Keeps its ticket, as a browser does."""

    def __init__(self, sessions: SessionTable, **terms: Any) -> None:
        self.sessions = sessions
        self.terms = terms
        self.ticket: Ticket | None = None
        self.place = -1

    def ask(self, now: float, **more: Any) -> str:
        what, sent, self.place = self.sessions.ask(self.ticket, now, **{**self.terms, **more})
        self.ticket = sent or self.ticket
        return what


def clients(sessions: SessionTable, count: int, **terms: Any) -> list[Client]:
    return [Client(sessions, **terms) for _ in range(count)]


# -------------------------------------------------------------------------------------------------------------- sessions


def test_no_client_gets_a_session_while_the_table_is_closed() -> None:
    sessions = table()
    old, queued, new = clients(sessions, 3, most=1)
    assert [old.ask(NOW), queued.ask(NOW)] == ["new", "waiting"]
    sessions.close_until(round((NOW + 10) * 1e9))
    assert [old.ask(NOW + 9), queued.ask(NOW + 9), new.ask(NOW + 9)] == ["renewed", "full", "full"]
    assert new.ask(NOW + 9, asset=True) == "refused asset"
    assert queued.ask(NOW + 11) == "waiting", "it has kept its place"
    sessions.close_until(round((NOW + 100) * 1e9))
    assert new.ask(NOW + 12) == "full"
    sessions.close_until(0)
    assert new.ask(NOW + 12) == "waiting"


def test_as_many_as_may_get_in_and_stay_in() -> None:
    all_clients = clients(table(), 5, most=3)
    assert [client.ask(NOW) for client in all_clients] == ["new"] * 3 + ["waiting"] * 2
    assert [client.place for client in all_clients[3:]] == [0, 1]
    assert [client.ask(NOW + 1) for client in all_clients] == ["renewed"] * 3 + ["waiting"] * 2
    assert [client.ask(NOW + 2) for client in all_clients[:3]] == ["live"] * 3
    later = NOW
    for _ in range(30):  # as long as requests come, the session lives
        later += 590
        assert [client.ask(later) for client in all_clients[:3]] == ["renewed"] * 3


def test_a_session_ends_after_idle_and_its_place_goes_to_the_head_of_the_queue() -> None:
    first, second, third = clients(table(), 3, most=1, idle=100)
    assert [client.ask(NOW) for client in (first, second, third)] == ["new", "waiting", "waiting"]
    first.ask(NOW + 1)
    now = NOW
    while second.ask(now) == "waiting":
        assert third.ask(now) == "waiting"
        now += 1
    assert NOW + 101 < now <= NOW + 103
    assert third.ask(now) == "waiting"
    assert third.place == 0
    assert first.ask(now + STEP) == "waiting"  # at the end of the queue, as every new client
    assert first.place == 1


def test_a_client_without_tickets_does_not_hold_places_for_long() -> None:
    sessions = table()
    assert [Client(sessions, most=10).ask(NOW) for _ in range(11)] == ["new"] * 10 + ["waiting"]
    assert Client(sessions, most=10).ask(NOW + UNCONFIRMED + 2) == "new"


def test_without_a_queue_there_is_no_place() -> None:
    first, second = clients(table(), 2, most=1, places=0)
    assert [first.ask(NOW), second.ask(NOW)] == ["new", "full"]
    assert second.ticket is None


def test_the_queue_has_so_many_places() -> None:
    all_clients = clients(table(), 8, most=1, places=4)
    assert [client.ask(NOW) for client in all_clients] == ["new"] + ["waiting"] * 4 + ["full"] * 3


def test_more_sessions_may_be_as_soon_as_the_site_says_so() -> None:
    sessions = table()
    all_clients = clients(sessions, 6, most=2)
    assert Counter(client.ask(NOW) for client in all_clients) == {"new": 2, "waiting": 4}
    assert Counter(client.ask(NOW + STEP, most=4) for client in all_clients) == {"renewed": 2, "new": 2, "waiting": 2}
    # Fewer: no session is ended.
    assert Counter(client.ask(NOW + 2 * STEP, most=1) for client in all_clients) == {
        "renewed": 2, "live": 2, "waiting": 2,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- queue


def test_who_leaves_the_queue_is_not_waited_for() -> None:
    sessions = table()
    leader, *others = clients(sessions, 4, most=1, refresh=5)
    assert [client.ask(NOW) for client in (leader, *others)] == ["new"] + ["waiting"] * 3
    leader.ask(NOW)
    stays = others[1]
    for second in range(0, 20, 5):
        leader.ask(NOW + second)
        stays.ask(NOW + second)
    assert stays.place == 0  # before it was 1
    assert others[2].ask(NOW + 20) == "waiting"
    assert others[2].place == 1


def test_who_is_late_keeps_its_place_and_does_not_keep_others_from_going_first() -> None:
    sessions = table()
    leader, late, other = clients(sessions, 3, most=1, refresh=5, idle=30)
    leader.ask(NOW)
    leader.ask(NOW)
    for second in (0, 5):
        late.ask(NOW + second)
    states = [other.ask(NOW + second) for second in range(0, 40, 5)]
    assert states == ["waiting"] * 7 + ["new"]  # the leader's place has become free
    assert late.ask(NOW + 35) == "waiting"
    assert late.place == 0


def test_new_clients_do_not_overtake_the_queue() -> None:
    sessions = table()
    leader, waiting = clients(sessions, 2, most=1, idle=10)
    leader.ask(NOW)
    leader.ask(NOW)
    assert waiting.ask(NOW) == "waiting"
    for second in range(1, 10, 3):
        waiting.ask(NOW + second)
    assert Client(sessions, most=1, idle=10).ask(NOW + 11.5) == "waiting"  # the place is free, and kept
    assert waiting.ask(NOW + 11.6) == "new"


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from(["ask", "new", "leave", "old", "steal"]), st.integers(0, 30)), max_size=150),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=150)
def test_never_more_sessions_than_may_be_and_places_only_get_better(
    most: int, operations: list[tuple[str, int]], chance: random.Random
) -> None:
    sessions = table()
    terms = {"most": most, "idle": 40, "refresh": 5, "places": 20}
    known: list[Client] = []
    spent: list[Ticket] = []
    places: dict[int, int] = {}
    now = NOW
    for operation, number in operations:
        now += chance.choice([0, 0.01, STEP, 1, 7])
        if operation == "new" or not known:
            known.append(Client(sessions, **terms))
        client = known[number % len(known)]
        if operation == "leave":
            known.remove(client)
            continue
        before = client.ticket
        if operation == "old" and spent:  # a ticket that was replaced, in other hands
            client = Client(sessions, **terms)
            client.ticket = spent[number % len(spent)]
        elif operation == "steal" and before:
            client = Client(sessions, **terms)
            client.ticket = before
        what = client.ask(now)
        if client.ticket != before and before is not None:
            spent.append(before)
        if what == "waiting" and client.ticket is not None:
            n = client.ticket[1]
            assert client.place <= places.get(n, client.place) + len(known)
            places[n] = client.place
        assert sessions.figures(int(now * 1e9), 40, 5)["live"] <= most


def test_places_are_taken_in_order() -> None:
    sessions = table()
    terms = {"most": 4, "idle": 20, "refresh": 5, "places": 1000}
    all_clients = clients(sessions, 100, **terms)
    inside: list[int] = []
    order: list[int] = []
    chance = random.Random(4)
    now = NOW
    waiting = list(range(100))
    while waiting and now < NOW + 5000:
        # Each comes once within a second, in any order, and who is in stays for one request more.
        for number in chance.sample(waiting, len(waiting)):
            what = all_clients[number].ask(now)
            if what == "new":
                all_clients[number].ask(now)
                inside.append(number)
        waiting = [number for number in waiting if number not in inside]
        if now == NOW:  # the order of their first requests is that of their numbers
            waiting.sort(key=lambda number: (all_clients[number].ticket or ("", 0, 0, 0))[1])
            order = inside + waiting
        now += 1
    assert not waiting
    assert all(abs(order.index(number) - at) < 4 for at, number in enumerate(inside))


# --------------------------------------------------------------------------------------------------------------- tickets


def test_a_place_admits_once() -> None:
    sessions = table()
    leader, waiting = clients(sessions, 2, most=1, idle=30)
    leader.ask(NOW)
    assert waiting.ask(NOW) == "waiting"
    ticket = waiting.ticket
    now = NOW + 5
    while waiting.ask(now) == "waiting":
        now += 5
    session = waiting.ticket
    copies = clients(sessions, 3, most=5, idle=30)
    for copy in copies:
        copy.ticket = ticket
    # The answer may have been lost: until its ticket has come back, the place gives the same session again.
    assert [copies[0].ask(now), copies[0].ticket and copies[0].ticket[1:3]] == ["new", session and session[1:3]]
    assert waiting.ask(now + STEP) == "renewed"
    assert copies[1].ask(now + 2 * STEP) == "new"  # there are 5 places now: a session of its own
    assert copies[1].ticket
    assert session
    assert copies[1].ticket[1:3] != session[1:3]
    assert copies[2].ask(now + 3 * STEP, most=2) == "waiting"
    assert sessions.figures(int((now + 1) * 1e9), 30, 5)["live"] == 2


def test_a_ticket_of_a_place_that_was_never_given_is_worth_nothing() -> None:
    sessions = table()
    for client in clients(sessions, 3, most=1):
        client.ask(NOW)
    own = sessions.ident
    for number in (2, 3, 4095, 4096, 2**63, 2**64 - 1):
        assert sessions.ask(("queued", number, own, int(NOW)), NOW, most=1)[2] >= 2
    for kind, number in (("live", own << 32 | 2000), ("new", own << 32 | 2**32 - 1), ("early", 2**40), ("none", 0)):
        assert sessions.ask((kind, number, 7, int(NOW)), NOW, most=1)[0] == "waiting"
    assert sessions.ask(("queued", 0, own ^ 1, int(NOW)), NOW, most=1)[2] >= 3


def test_a_ticket_of_a_session_that_has_ended_is_worth_nothing() -> None:
    sessions = table()
    first, second = clients(sessions, 2, most=1, idle=100)
    first.ask(NOW)
    first.ask(NOW + 1)
    assert second.ask(NOW + 103) == "new"
    assert first.ask(NOW + 104) == "waiting"


# --------------------------------------------------------------------------------------- other gateways, crashes, reloads


def test_the_table_goes_on_in_another_process() -> None:
    memory = mmap.mmap(-1, size(**SMALL))
    first, second = clients(table(memory=memory), 2, most=1)
    assert [first.ask(NOW), second.ask(NOW)] == ["new", "waiting"]
    first.sessions = second.sessions = SessionTable(memory, os.urandom(16), **SMALL)
    assert [first.ask(NOW + 1), second.ask(NOW + 1), second.place] == ["renewed", "waiting", 0]


def test_another_gateway_takes_a_session_over_even_if_it_has_all_it_may_have() -> None:
    here, there = table(), table(b"another secret..")
    visitor = Client(here, most=2, idle=100)
    assert [visitor.ask(NOW), visitor.ask(NOW + 1)] == ["new", "renewed"]
    others = clients(there, 3, most=2, idle=100)
    assert [client.ask(NOW) for client in others] == ["new", "new", "waiting"]
    for client in others:
        client.ask(NOW)
    ticket = visitor.ticket
    visitor.sessions = there
    assert visitor.ask(NOW + 60) == "adopted"
    for _ in range(5):  # its page's other requests have the old ticket
        copy = Client(there, most=2, idle=100)
        copy.ticket = ticket
        assert copy.ask(NOW + 60) == "adopted"
        assert copy.ticket == visitor.ticket
    assert there.figures(int((NOW + 60) * 1e9), 100, 5)["live"] == 3
    for client in others[:2]:
        client.ask(NOW + 60)
    assert others[2].ask(NOW + 60) == "waiting"
    # One place is above what there may be: the next that becomes free is not given away.
    visitor.ask(NOW + 100), others[0].ask(NOW + 100), others[2].ask(NOW + 100)
    for second in (110, 120, 130, 140, 150, 158, 162):
        assert others[2].ask(NOW + second) == "waiting"
    assert visitor.ask(NOW + 163) == "renewed"
    assert others[2].ask(NOW + 190) == "waiting"
    assert others[2].ask(NOW + 202) == "new"  # now the second one has ended


def test_another_gateway_takes_no_stale_tickets() -> None:
    here, there = table(), table(b"another secret..")
    visitor, loiterer = clients(here, 2, most=5, idle=100)
    visitor.ask(NOW), visitor.ask(NOW), loiterer.ask(NOW)
    for client in (visitor, loiterer):
        client.sessions = there
    blocker = Client(there, most=1, idle=100)
    for second in (0, 1, 50, 100):
        blocker.ask(NOW + second)
    assert visitor.ask(NOW + 126, most=1) == "waiting"
    assert loiterer.ask(NOW + UNCONFIRMED + 1, most=1) == "waiting"
    early = Client(there, most=1)
    early.ticket = ("live", 5, 6, int(NOW + 100))
    assert early.ask(NOW) == "waiting"  # a clock that is far ahead


def test_processes_together_admit_exactly_as_many_as_may_be() -> None:
    memory = mmap.mmap(-1, size(**SMALL))
    results = mmap.mmap(-1, 4 * 8)
    table(memory=memory).census(NOW, most=500)
    children = []
    for worker in range(4):
        pid = os.fork()
        if pid == 0:
            sessions = table(memory=memory)
            admitted = sum(sessions.ask(None, NOW + i * 0.01, most=500)[0] == "new" for i in range(400))
            results[worker * 8 : worker * 8 + 8] = admitted.to_bytes(8, "little")
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert sum(int.from_bytes(results[i * 8 : i * 8 + 8], "little") for i in range(4)) == 500
    figures = table(memory=memory).figures(int(NOW * 1e9), 600, 5)
    assert [figures["live"], figures["waiting"]] == [500, 1000]


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_leaves_the_table_right() -> None:
    memory = mmap.mmap(-1, size(**SMALL))
    chance = random.Random(7)
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            sessions, now = table(memory=memory), NOW
            while True:
                sessions.ask(None, now, most=100, idle=5, places=200)
                now += 0.001
        timer = threading.Timer(chance.uniform(0.001, 0.02), os.kill, (pid, signal.SIGKILL))
        timer.start()
        os.waitpid(pid, 0)
    sessions = table(memory=memory)
    later = NOW + 1000
    got = Counter(sessions.ask(None, later, most=100, places=200)[0] for _ in range(400))
    assert got == {"new": 100, "waiting": 200, "full": 100}


# --------------------------------------------------------------------------------------------------------------- opening


def test_every_client_from_before_the_opening_gets_a_random_place() -> None:
    sessions = table()
    opens = int(NOW) + 100
    terms = {"most": 10, "opens": opens, "idle": 100_000, "places": 1000}
    early = clients(sessions, 300, **terms)
    assert {client.ask(NOW) for client in early} == {"early"}
    assert {client.ask(NOW + 50) for client in early} == {"early"}
    late = Client(sessions, **terms)
    states = [(client.ask(NOW + 100), client.place) for client in early]
    assert late.ask(NOW + 100) == "waiting"
    admitted = [at for at, (what, _) in enumerate(states) if what == "new"]
    places = [place for what, place in states if what == "waiting"]
    numbers = [client.ticket[1] for client in early if client.ticket and client.ticket[0] == "queued"]
    assert len(admitted) == 10
    assert len(set(numbers)) == 290
    assert max(places) == 299
    assert late.ticket
    assert late.ticket[1] > max(numbers)
    assert admitted[-1] > 9
    rising = sum(a < b for a, b in itertools.pairwise(numbers))
    assert 100 < rising < 190  # as a random order has it, about half of them


def test_an_early_ticket_gives_one_place() -> None:
    sessions = table()
    terms = {"most": 1, "opens": int(NOW) + 10, "idle": 100_000}
    first, second = clients(sessions, 2, **terms)
    first.ask(NOW), second.ask(NOW)
    ticket = first.ticket
    first.ask(NOW + 10), second.ask(NOW + 10)
    again = Client(sessions, **terms)
    again.ticket = ticket
    first.ask(NOW + 11), second.ask(NOW + 11)
    assert again.ask(NOW + 11) in {"waiting", "new"}
    assert sessions.figures(int((NOW + 11) * 1e9), 100_000, 5)["waiting"] <= 2
    stranger = Client(sessions, **terms)
    stranger.ticket = ("early", 1 << 32 | 2, sessions.ident, int(NOW))  # one more than was given
    assert stranger.ask(NOW + 12) == "waiting"
    assert stranger.place == sessions.figures(int((NOW + 12) * 1e9), 100_000, 5)["waiting"] - 1  # the last one


def test_before_the_opening_sessions_that_are_there_go_on() -> None:
    sessions = table()
    visitor = Client(sessions, most=10)
    assert visitor.ask(NOW) == "new"
    assert visitor.ask(NOW + 1, opens=int(NOW) + 50) == "renewed"
    assert Client(sessions, most=10).ask(NOW + 1, opens=int(NOW) + 50) == "early"
    assert Client(sessions, most=10).ask(NOW + 1, opens=0) == "new"  # the site has taken it back


# --------------------------------------------------------------------------------------------------- assets, rates, sizes


def test_assets_get_no_place() -> None:
    sessions = table()
    visitor = Client(sessions, most=1)
    assert Client(sessions, most=1).ask(NOW, asset=True) == "asset"
    assert visitor.ask(NOW) == "new"
    assert visitor.ask(NOW, asset=True) == "renewed"
    assert Client(sessions, most=1).ask(NOW, asset=True) == "refused asset"
    assert sessions.figures(int(NOW * 1e9), 600, 5)["waiting"] == 0


def test_the_rate_is_that_at_which_places_enter() -> None:
    sessions = table()
    terms = {"most": 20, "idle": 10, "refresh": 2, "places": 2000}
    queue: list[Client] = []
    now = NOW
    for _ in range(90):
        queue += clients(sessions, 4, **terms)
        queue = [client for client in queue if client.ask(now) == "waiting"]
        now += 1
    rate = sessions.figures(int(now * 1e9), 10, 2)["advance_rate"]
    assert rate == pytest.approx(20 / 11, rel=0.25)  # 20 sessions of 11 seconds


ROOM: dict[str, Any] = {"places": 100, "at_servers": 40, "seconds": 0.1}
NO_ROOM: dict[str, Any] = {"places": 100, "at_servers": 100, "waiting": 5, "seconds": 0.1}


def test_with_a_measured_number_no_session_begins_while_the_servers_have_no_room() -> None:
    sessions = table()
    sessions.measure_now(NOW, **ROOM)
    first, second, third = clients(sessions, 3, most=0, places=0)
    assert [first.ask(NOW), second.ask(NOW)] == ["new", "new"]
    sessions.measure_now(NOW + STEP, **NO_ROOM)
    assert third.ask(NOW + STEP) == "full"
    assert [first.ask(NOW + STEP), second.ask(NOW + STEP)] == ["renewed", "renewed"]
    assert Client(sessions, most=0).ask(NOW + STEP, asset=True) == "refused asset"
    sessions.measure_now(NOW + 2 * STEP, **ROOM)
    assert third.ask(NOW + 2 * STEP) == "new"


def test_with_a_measured_number_the_head_of_the_queue_is_first_when_the_servers_have_room_again() -> None:
    sessions = table()
    terms = {"most": 0, "places": 100, "refresh": 1}
    sessions.measure_now(NOW, **NO_ROOM, queue=100, refresh=1)
    first, second, third = clients(sessions, 3, **terms)
    assert [client.ask(NOW) for client in (first, second, third)] == ["waiting"] * 3
    sessions.measure_now(NOW + STEP, places=100, at_servers=99, seconds=0.1, queue=100, refresh=1)
    assert [client.ask(NOW + STEP) for client in (third, first, second)] == ["waiting", "new", "waiting"]


def test_without_a_server_in_service_the_measured_number_is_no_limit() -> None:
    sessions = table()
    sessions.measure_now(NOW, places=0, at_servers=0)
    assert Counter(client.ask(NOW) for client in clients(sessions, 100, most=0, places=0)) == {"new": 100}


def test_a_full_table_of_a_measured_number_is_shown_with_its_reason() -> None:
    sessions = table()
    assert sessions.measure_now(NOW, **NO_ROOM) == 1
    figures = sessions.figures(int(NOW * 1e9), 600, 5)
    assert (figures["measured_max"], figures["measured_why"]) == (1, "full")


def test_a_million_waiting_tickets_take_8_bytes_each_and_their_rounds_can_go_on() -> None:
    assert size(SLOTS, RING) < 25 << 20
    assert MOST_PLACES == 1 << 20
    sessions = table()
    terms = {"most": 1, "idle": 100_000, "refresh": 1, "places": 100}
    now = NOW
    blocker = Client(sessions, **terms)
    blocker.ask(now), blocker.ask(now)
    for _ in range(600):  # 12,000 numbers: three rounds of a ring of 4096
        assert {client.ask(now) for client in clients(sessions, 20, **terms)} == {"waiting"}
        now += 5
    last = Client(sessions, **terms)
    assert [last.ask(now), last.place] == ["waiting", 0]


def test_memory_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="has not the size"):
        SessionTable(bytearray(1000), bytes(16))
    with pytest.raises(ValueError, match="version"):
        SessionTable(bytearray(size(**SMALL)), None, **SMALL)
    with pytest.raises(ValueError, match="16 bytes"):
        SessionTable(bytearray(size(**SMALL)), b"", **SMALL)
