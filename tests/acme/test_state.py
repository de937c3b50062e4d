"""What gateways know of certificates: kept, parsed, and merged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acme.policy import Window
from gateway.acme.state import PEM_BYTES, Account, Certificate, Record, State, Unusable, as_json, digest, parsed

TIMES = st.floats(0, 1e6)
TEXTS = st.text(max_size=3)
NAMES = st.sampled_from(["a", "b"])
ACCOUNTS = st.dictionaries(NAMES, st.builds(Account, TEXTS, TEXTS, TIMES))
CERTIFICATES = st.dictionaries(NAMES, st.builds(Certificate, TEXTS, TIMES, TEXTS))
WINDOWS = st.none() | st.builds(Window, TIMES, TIMES)
RECORDS = st.dictionaries(
    NAMES,
    st.builds(
        Record, changed=TIMES, failures=st.integers(0, 5), error=TEXTS, failed_at=st.tuples(TIMES), window=WINDOWS
    ),
)
STATES = st.builds(State, ACCOUNTS, CERTIFICATES, RECORDS)


@given(STATES)
def test_what_is_written_is_read(state: State) -> None:
    assert parsed(as_json(state)) == state


@given(STATES, STATES, STATES)
def test_merging_is_the_same_in_any_order(one: State, two: State, three: State) -> None:
    together = one.merged(two).merged(three)
    assert digest(together.merged(one)) == digest(together)
    assert set(together.certificates) == {*one.certificates, *two.certificates, *three.certificates}
    assert {name: c.at for name, c in together.certificates.items()} == {
        name: c.at for name, c in three.merged(one.merged(two)).certificates.items()
    }


def test_the_oldest_account_and_the_newest_certificate_win() -> None:
    ours = State({"d": Account("k1", "u1", 5.0)}, {"n": Certificate("old", 1.0, "k")}, {"n": Record(changed=9.0)})
    theirs = State({"d": Account("k2", "u2", 4.0)}, {"n": Certificate("new", 2.0, "k")}, {"n": Record(changed=8.0)})
    both = ours.merged(theirs)
    assert both == theirs.merged(ours)
    assert (both.accounts["d"].key, both.certificates["n"].pem, both.record("n").changed) == ("k2", "new", 9.0)


def test_only_what_is_wanted_is_taken_over() -> None:
    state = State({"d": Account("k", "u", 1.0)}, {"n": Certificate("p", 1.0, "k")}, {"n": Record(changed=1.0)})
    assert state.of(frozenset(), frozenset()) == State()
    assert state.of(frozenset({"n"}), frozenset({"d"})) == state


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"accounts": {"d": {}}}',
        b'{"certificates": {"n": {"pem": 1, "at": 0, "kind": ""}}}',
        b'{"records": {"n": {"next": "x"}}}',
        b'{"records": {"n": {"next": Infinity}}}',
        b'{"records": {"n": {"changed": NaN}}}',
        b'{"certificates": {"n": {"pem": "", "at": 1e300, "kind": ""}}}',
        b'{"records": {"n": {"window": {"start": 0, "end": NaN}}}}',
        as_json(State(certificates={"n": Certificate("x" * (PEM_BYTES + 1), 0.0, "")})),
    ],
)
def test_what_is_no_state_is_refused(text: bytes) -> None:
    with pytest.raises(Unusable):
        parsed(text)
