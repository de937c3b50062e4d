"""Beats: what is written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.heartbeat.beat import MAX_BYTES, AdminState, BadBeat, Beat, Claim, Codec, Echo, Stake, Vote

KEY = b"0123456789abcdef"
CODEC = Codec(KEY)
BEAT = Beat(
    node="gw1",
    incarnation=2**63 + 5,
    sequence=77,
    lease=0.4,
    interval=0.1,
    admin_state=AdminState.DRAIN,
    answer=True,
    digest=b"12345678",
    echoes=(Echo("gw2", 9, 8, 0.25), Echo("witness", 1, 2, 0.0)),
    claims=(Claim("192.0.2.10", Stake.OWNING, 255), Claim("2001:db8::10", Stake.ASKING, 1)),
    votes=(Vote("192.0.2.10", "gw2", 3, 4),),
)

names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=16)
whole = st.integers(0, 2**64 - 1)
addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).filter(lambda ip: int(ip) >> 48).map(
    lambda ip: ip.compressed
)
beats = st.builds(
    Beat,
    node=names,
    incarnation=whole,
    sequence=whole,
    lease=st.integers(1, 10_000).map(lambda ms: ms / 1000),
    interval=st.integers(1, 10_000).map(lambda ms: ms / 1000),
    admin_state=st.sampled_from(AdminState),
    answer=st.booleans(),
    digest=st.binary(max_size=32),
    echoes=st.lists(
        st.builds(Echo, names, whole, whole, st.integers(0, 10**6).map(lambda us: us / 1e6)), max_size=4
    ).map(tuple),
    claims=st.lists(st.builds(Claim, addresses, st.sampled_from(Stake), st.integers(0, 255)), max_size=4).map(tuple),
    votes=st.lists(st.builds(Vote, addresses, names, whole, whole), max_size=4).map(tuple),
    cluster=st.just(b""),
)


@given(beats)
def test_what_is_written_is_read(beat):
    assert CODEC.decode(CODEC.encode(beat)) == beat


def test_every_changed_bit_is_noticed():
    data = CODEC.encode(BEAT)
    for i in range(len(data) * 8):
        forged = bytearray(data)
        forged[i // 8] ^= 1 << i % 8
        with pytest.raises(BadBeat):
            CODEC.decode(bytes(forged))


def test_every_truncation_is_noticed():
    data = CODEC.encode(BEAT)
    for length in range(len(data)):
        with pytest.raises(BadBeat):
            CODEC.decode(data[:length])
    with pytest.raises(BadBeat):
        CODEC.decode(data + b"\0")


@given(st.binary(max_size=200))
def test_authentic_nonsense_is_refused(body):
    """Whoever has the key may still have a bug."""
    data = CODEC.encode(BEAT)[:6] + body
    with pytest.raises(BadBeat) as refused:
        CODEC.decode(data + CODEC._sign(data))
    assert str(refused.value) in {"format", "size"}


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "size"),
        (b"x" * (MAX_BYTES + 1), "size"),
        (b"x" * 100, "magic"),
        (b"GWHB\x01" + b"x" * 100, "version"),
        (Codec(b"another key, long enough").encode(BEAT), "signature"),
        (Codec(KEY, "melbourne").encode(BEAT), "another cluster"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(BadBeat, match=reason):
        CODEC.decode(data)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="too short"):
        Codec(b"short")


def test_a_beat_that_would_not_fit_is_refused():
    votes = tuple(Vote("2001:db8::1", "n" * 64, 0, i) for i in range(200))
    with pytest.raises(ValueError, match="too large"):
        CODEC.encode(BEAT._replace(votes=votes))


def test_who_serves_all_clusters_knows_them_apart():
    witness = Codec(KEY, cluster=None)
    found = [witness.decode(Codec(KEY, name).encode(BEAT)) for name in ("", "melbourne", "sydney")]
    assert len({beat.cluster for beat in found}) == 3
    assert all(beat._replace(cluster=b"") == BEAT for beat in found)
    assert Codec(KEY, "sydney").decode(witness.encode(found[2])) == BEAT
    with pytest.raises(BadBeat, match="another cluster"):
        Codec(KEY, "sydney").decode(witness.encode(found[1]))
