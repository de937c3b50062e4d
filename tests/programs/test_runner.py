"""A program of a map: what it answers, and what becomes of it when it does not."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.process.map_questions import MAX_VALUE
from gateway.programs import runner
from gateway.programs.counts import Counts
from gateway.programs.runner import Runner
from tests.support.waiting import soon

SCRIPT = f"""\
#!/bin/sh
while IFS= read -r key
do
  case "$key" in
    nothing) echo NULL;;
    two) printf 'one\\ntwo\\n';;
    long) head -c {MAX_VALUE + 1} /dev/zero | tr '\\0' a; echo;;
    longest) head -c {MAX_VALUE} /dev/zero | tr '\\0' a; echo;;
    bytes) printf '\\377\\000x\\n';;
    end) exit 3;;
    pieces) for one in v a l u e; do printf $one; done; echo;;
    cut-*) printf '%s' "${{key#cut-}}"; exit 4;;
    crash) kill -SEGV $$;;
    pid) echo $$;;
    wait) read -r said < "$1"; echo "$said";;
    never) sleep 1000 & wait;;
    variables) env | sort | tr '\\n' ' '; pwd;;
    *) echo "$key-$2";;
  esac
done
"""
Make = Callable[..., Runner]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
async def make(tmp_path: Path, pipe: Path) -> AsyncIterator[Make]:
    path = tmp_path / "program"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    made: list[Runner] = []

    def start(*command: str) -> Runner:
        made.append(Runner(command or (str(path), str(pipe), "x"), Counts()))
        return made[-1]

    yield start
    await asyncio.gather(*(one.retire() for one in made))


async def said(asked: Runner, *keys: bytes) -> list[bytes | str | None]:
    """The answers to keys that are asked for at once."""
    told: list[asyncio.Future[bytes | str | None]] = []
    for key in keys:
        told.append(asyncio.get_running_loop().create_future())
        asked.ask(key, told[-1].set_result)
    return await asyncio.gather(*told)


async def test_one_line_for_each_key_in_order(make: Make) -> None:
    one = make()
    keys = [b"%d" % number for number in range(200)]
    assert await said(one, *keys) == [key + b"-x" for key in keys]
    assert await said(one, b"nothing", b"bytes", b"", b"a b\t'\"$x") == [None, b"\xff\0x", b"-x", b"a b\t'\"$x-x"]
    assert await said(one, b"longest") == [b"a" * MAX_VALUE]
    assert (one.counts.found, one.counts.none, one.counts.starts) == (204, 1, 1)


async def test_it_knows_nothing_of_the_gateway(make: Make) -> None:
    (found,) = await said(make(), b"variables")
    assert isinstance(found, bytes)
    names = {word.partition(b"=")[0] for word in found.split()[:-1]}
    assert names <= {b"PATH", b"LANG", b"PWD", b"OLDPWD", b"SHLVL", b"_"}
    assert found.endswith(b" /")


@pytest.mark.parametrize(
    "key, reason, why",
    [
        (b"end", "ended", "its program has ended with status 3 before it answered"),
        (b"crash", "ended", "its program was killed by SIGSEGV before it answered"),
        (b"long", "long", f"its program has answered with more than {MAX_VALUE} bytes, and is killed"),
        (b"never", "slow", "its program has not answered in 0.2 s, and is killed"),
    ],
)
async def test_a_program_without_an_answer_is_started_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, key: bytes, reason: str, why: str
) -> None:
    monkeypatch.setattr(runner, "ANSWER", 0.2 if reason == "slow" else 20.0)
    one = make()
    (before,) = await said(one, b"pid")
    (failed, after) = await said(one, key, b"pid")
    assert failed == why
    assert isinstance(after, bytes), "the next key goes to the next program"
    assert after != before
    assert (one.counts.failed[reason], one.counts.starts, one.counts.failing) == (1, 2, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(before or b""), 0)


async def test_a_line_too_many_never_answers_another_key(make: Make) -> None:
    one = make()
    assert await said(one, b"two", b"a") == [b"one", b"a-x"]
    assert (one.counts.starts, one.counts.failing) == (2, "")


async def test_an_answer_comes_in_pieces_and_one_that_is_cut_anywhere_is_none(make: Make) -> None:
    one = make()
    assert await said(one, b"pieces", b"a") == [b"value", b"a-x"]
    for length in range(len(b"value") + 1):
        good, cut = await said(one, b"a", b"cut-" + b"value"[:length])
        assert (good, cut) == (b"a-x", "its program has ended with status 4 before it answered")


async def test_a_program_that_keeps_ending_refuses_at_once_until_it_is_started_again(make: Make) -> None:
    one = make("/bin/false")
    await soon(lambda: one.counts.starts >= 2, "a second start")
    answers = [await said(one, b"a") for _ in range(50)]
    assert all(isinstance(answer, str) for (answer,) in answers)
    assert any("is started again in" in str(answer) for (answer,) in answers)
    assert one.counts.starts < 10
    assert one.counts.failing.startswith("has ended with status 1")


async def test_one_that_cannot_be_run_says_why(make: Make) -> None:
    one = make("/none/such")
    await soon(lambda: one.counts.failing, "a failed start")
    assert one.counts.failing == "cannot be run: no such file or directory"


async def test_too_many_and_too_old_questions_are_refused(
    make: Make, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MOST", 3)
    one = make()
    first = asyncio.ensure_future(said(one, b"wait"))
    await soon(lambda: not one.waiting and one.counts.starts == 1, "the first key to be asked")
    others = asyncio.ensure_future(said(one, b"a", b"b", b"c", b"d"))
    await asyncio.sleep(0)
    assert one.counts.failed["full"] == 1
    monkeypatch.setattr(runner, "TURN", 0.0)
    await asyncio.to_thread(pipe.write_text, "go\n")
    assert await first == [b"go"]
    assert await others == ["its program did not come to this key in 0 s"] * 3 + [
        "too many questions wait for its program"
    ]
    assert one.counts.failed["late"] == 3


async def test_another_one_takes_over_what_waits_and_the_first_answers_its_last_key(make: Make, pipe: Path) -> None:
    old = make()
    (before,) = await said(old, b"pid")
    last = asyncio.ensure_future(said(old, b"wait", b"pid"))
    await soon(lambda: old.waiting == 1, "the key to be asked")
    new = make()
    old.hand_over(new)
    ending = asyncio.ensure_future(old.retire())
    await soon(lambda: new.waiting == 0 and new.counts.found == 1, "the new one to answer")
    await asyncio.to_thread(pipe.write_text, "go\n")
    first, second = await last
    assert first == b"go"
    assert second != before
    await ending
    with pytest.raises(ProcessLookupError):
        os.kill(int(before or b""), 0)
