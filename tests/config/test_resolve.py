import threading

import pytest

from gateway.config.resolve import lookup, resolve

NAMES = {"a": ["10.0.0.2", "10.0.0.1", "::1"], "b": ["2001:db8::2", "10.0.0.1", "2001:db8::1"]}


def ask(host: str) -> list[str]:
    if host not in NAMES:
        raise OSError(None, "unknown")
    return NAMES[host]


def test_the_lowest_address_of_the_preferred_family() -> None:
    assert resolve(["a", "b"], ask) == {"a": "10.0.0.1", "b": "2001:db8::1"}


def test_one_failure_is_not_anothers() -> None:
    answers = resolve(["x", "a"], ask)
    assert isinstance(answers["x"], OSError)
    assert answers["a"] == "10.0.0.1"


def test_each_name_is_asked_once_and_many_at_a_time() -> None:
    asked: list[str] = []
    together = threading.Barrier(16, timeout=30)

    def slow(host: str) -> list[str]:
        asked.append(host)
        together.wait()
        return ["10.0.0.1"]

    hosts = [f"h{i}" for i in range(32)] * 2
    assert set(resolve(hosts, slow).values()) == {"10.0.0.1"}
    assert sorted(asked) == sorted(set(hosts))


@pytest.mark.slow
def test_a_silent_name_service_delays_the_start_for_a_bounded_time() -> None:
    release = threading.Event()

    def silent(host: str) -> list[str]:
        if host == "silent":
            release.wait()
        return ["10.0.0.1"]

    answers = resolve(["silent", "a"], silent, deadline=1.0)
    release.set()
    assert isinstance(answers["silent"], TimeoutError)
    assert answers["a"] == "10.0.0.1"


def test_no_names_no_question() -> None:
    assert resolve([]) == {}


def test_the_systems_resolver() -> None:
    assert lookup("localhost")[0] in ("127.0.0.1", "::1")
