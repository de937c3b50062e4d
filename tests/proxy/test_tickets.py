from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy import tickets

SECRET = b"s" * 32
PERIODS = st.integers(0, 2**40)


@given(PERIODS, PERIODS)
def test_each_period_has_a_key_of_its_own(one: int, other: int) -> None:
    of = tickets.identity("web", [b"certificate"])
    first, second = tickets.key(SECRET, of, one), tickets.key(SECRET, of, other)
    assert len(first) == tickets.KEY_BYTES
    assert (first == second) == (one == other)
    assert first[:16] not in first[16:]


def test_a_key_is_for_one_secret_frontend_and_set_of_certificates() -> None:
    known = {
        tickets.key(secret, tickets.identity(name, certificates), 1)
        for secret in (SECRET, b"t" * 32)
        for name in ("web", "api")
        for certificates in ([b"a"], [b"b"], [b"a", b"b"], [b"ab"])
    }
    assert len(known) == 16
