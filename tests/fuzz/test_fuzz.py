"""The corpus, and a short run of every fuzz target; `make fuzz` runs them for as long as one likes."""

import pytest

from tests.fuzz.engine import Finding, Fuzzer
from tests.fuzz.run import corpus
from tests.fuzz.targets import TARGETS, WORDS


@pytest.mark.parametrize("name", TARGETS)
def test_fuzz(name: str) -> None:
    fuzzer = Fuzzer(TARGETS[name], WORDS[name], seed=1)
    behaviours = fuzzer.run(corpus(name), 2.5)
    assert behaviours > 5
    assert fuzzer.runs > 500


def test_a_fault_is_found() -> None:
    def careless(data: bytes) -> int:
        assert b"5;" not in data
        return len(data)

    with pytest.raises(Finding) as found:
        Fuzzer(careless, WORDS["chunked"]).run([b"5\r\nhello\r\n0\r\n\r\n"], 5.0)
    assert b"5;" in found.value.data
