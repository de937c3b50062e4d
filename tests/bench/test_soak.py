import asyncio
import random
import time
from collections import Counter

import pytest

from bench.soak import MAX_GROWTH, SLACK, Process, explain
from bench.traffic import CLOSED, KINDS, RUDE, TRUNCATED, WRONG, Broken, Results, answer, polite


def process(**values):
    fields = {"rss_early": 50_000_000, "rss_late": 50_000_000, "rss_most": 60_000_000}
    return Process("worker 0", **fields | {"fds_before": 17, "fds_after": 17, "fds_most": 99} | values)


def test_growth_is_a_problem_and_less_is_not():
    assert process().problems() == []
    assert process(rss_late=40_000_000, fds_after=16).problems() == []
    assert process(rss_late=50_000_000 + SLACK).problems() == []
    assert len(process(rss_late=int(50_000_000 * (1 + MAX_GROWTH)) + SLACK + 1).problems()) == 1
    assert process(fds_after=18).problems() == ["worker 0: 17 descriptors before, 18 after"]


LOG = """\
2026-01-01 00:00:00,000 INFO    [10] worker 1 started, pid 13
2026-01-01 00:00:00,001 ERROR   [10] worker 1 (pid 13) was killed by SIGKILL; starting another
2026-01-01 00:00:00,002 ERROR   [10] reload refused; keeping version 1:
/tmp/site.yaml:3:1: unknown key routs, did you mean routes?
2026-01-01 00:00:00,003 WARNING [11] server app/app1 is DOWN: TCP_CONNECT_REFUSED after 2 failed checks
2026-01-01 00:00:00,004 ERROR   [10] worker 0 (pid 12) was killed by SIGSEGV; starting another
2026-01-01 00:00:00,005 ERROR   [12] worker 0 ends
Traceback (most recent call last):
2026-01-01 00:00:00,006 INFO    [11] server app/app1 is UP: OK after 1 good check
"""


def test_log_lines_are_explained_or_shown():
    explained, others = explain(LOG)
    assert sum(explained.values()) == 3
    assert others == [LOG.splitlines()[number] for number in (5, 6, 7)]


def test_outcomes_are_expected_always_or_while_disturbed():
    results = Results(until=100.0)
    good = frozenset({"200"})
    for outcome, began in (("200", 200.0), ("502", 99.0), (CLOSED, 100.0)):
        results.add("GET", outcome, good, began)
    assert results.unexpected == []
    for outcome, began in (("502", 100.1), (WRONG, 99.0), ("400", 99.0)):
        results.add("GET", outcome, good, began)
    assert [line.split()[1] for line in results.unexpected] == ["502", WRONG, "400"]
    assert results.outcomes["GET"] == {"200": 1, "502": 2, CLOSED: 1, WRONG: 1, "400": 1}


async def read(data, *, head=False):
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await answer(reader, head=head)


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


async def test_answers_are_read_and_breaks_are_seen_at_every_byte():
    assert await read(CHUNKS) == ("200", b"hello", True)
    assert await read(SIZED) == ("200", b"hello", False)
    assert await read(SIZED[:-5], head=True) == ("200", b"", False)
    for whole in (CHUNKS, SIZED):
        for end in range(len(whole)):
            with pytest.raises(Broken) as caught:
                await read(whole[:end])
            assert caught.value.outcome == (TRUNCATED if end else CLOSED)


async def test_polite_client_notices_wrong_and_broken_answers():
    """A server that gives every client the same answer, and then none."""
    asked = 0

    async def serve(reader, writer):
        nonlocal asked
        try:
            while asked < 100:
                await reader.readuntil(b"\r\n\r\n")
                asked += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    class First(random.Random):
        """Chance without any: each kind in turn."""

        turn = 0

        def choice(self, kinds):
            self.turn += 1
            return kinds[(0, 1, 8)[self.turn % 3]]

        def uniform(self, low, _high):
            return low

    results, stop = Results(), asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(40):
        client = asyncio.create_task(polite(server.sockets[0].getsockname()[1], results, stop, First()))
        while not results.outcomes.get("GET", Counter())[CLOSED]:  # noqa: ASYNC110 - Results has no event to wait for
            await asyncio.sleep(0.01)
        stop.set()
        await client
    assert results.outcomes["GET"]["200"] >= 30
    assert results.outcomes["GET 100 kB"][WRONG] >= 30
    assert results.outcomes["304"]["200"] >= 30
    assert {line.split(":")[0] for line in results.unexpected} == {"GET", "GET 100 kB", "304"}
    assert time.monotonic() > results.until


def test_every_kind_has_a_name_of_its_own():
    names = [kind.name for kind in KINDS] + [name for name, *_ in RUDE]
    assert len(set(names)) == len(names)
