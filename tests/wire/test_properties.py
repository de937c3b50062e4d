"""Generated messages: what the gateway accepts means the same to llhttp and to h11."""

import pytest
from hypothesis import given, settings

from tests.support.others import Message, disagreements, ours
from tests.wire.messages import damaged, requests, responses

MANY = settings(max_examples=500)


@pytest.mark.slow
@MANY
@given(requests())
def test_good_requests_are_accepted_and_read_alike(made: tuple[bytes, bytes]) -> None:
    data, content = made
    mine = ours(data)
    assert isinstance(mine, Message), mine
    assert (mine.complete, mine.body, mine.rest) == (True, content, b"")
    assert disagreements(data) == []


@pytest.mark.slow
@MANY
@given(damaged(requests()))
def test_what_is_accepted_of_damaged_requests_is_read_alike(data: bytes) -> None:
    assert disagreements(data) == []


@pytest.mark.slow
@MANY
@given(responses())
def test_good_responses_are_accepted_and_read_alike(made: tuple[bytes, bytes]) -> None:
    data, content = made
    mine = ours(data, response=True)
    assert isinstance(mine, Message), mine
    assert (mine.body, mine.rest) == (content, b"")
    assert disagreements(data, response=True) == []


@pytest.mark.slow
@MANY
@given(damaged(responses()))
def test_what_is_accepted_of_damaged_responses_is_read_alike(data: bytes) -> None:
    assert disagreements(data, response=True) == []


def test_disagreement_is_noticed() -> None:
    # What the gateway accepts beyond others, to see that the comparison can fail: an extension that llhttp refuses
    # is forgiven, the same byte in a method is not.
    assert disagreements(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0 ;a\r\n\r\n") == []
    assert disagreements(b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx") == []
