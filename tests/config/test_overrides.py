import pytest

from gateway.config import overrides
from gateway.config.overrides import NODE, Override, Overrides, TooMany


def test_a_server_has_what_is_set_for_it_or_else_for_its_backend():
    found = Overrides().put("app", "drain", 1.0).weigh("app/a", 5, 2.0)
    assert found.server("app", "a") == Override("drain", 5, None, 2.0)
    assert found.server("app", "b") == Override("drain", None, None, 1.0)
    assert not found.server("other", "a")
    assert found.put("app/a", "maintenance", 3.0).server("app", "a").state == "maintenance"


def test_a_command_for_a_backend_replaces_those_for_its_servers():
    found = Overrides().put("app/a", "maintenance", 1.0).weigh("app/a", 5, 1.0).put("apple/a", "drain", 1.0)
    drained = found.put("app", "drain", 2.0)
    assert drained.server("app", "a") == Override("drain", 5, None, 2.0)
    assert drained.server("apple", "a").state == "drain"
    assert drained.weigh("app", 7, 3.0).server("app", "a").weight == 7


def test_ready_ends_what_a_command_has_set():
    found = Overrides().put("app/a", "drain", 1.0)
    assert found.ready("app/a", [("app/a", "drain")], 2.0).of == {}
    whole = Overrides().put("app", "drain", 1.0)
    assert whole.ready("app", [("app/a", "drain"), ("app/b", "drain")], 2.0).of == {}


def test_ready_for_one_server_of_a_drained_backend_is_an_exception():
    found = Overrides().put("app", "drain", 1.0).ready("app/a", [("app/a", "drain")], 2.0)
    assert found.server("app", "a").state == "ready"
    assert found.server("app", "b").state == "drain"
    assert found.put("app", "drain", 3.0).server("app", "a").state == "drain"


def test_ready_overrules_an_agent_and_stays_when_it_is_said_twice():
    found = Overrides().ready("app/a", [("app/a", "drain")], 1.0)
    assert found.of == {"app/a": Override("ready", None, "drain", 1.0)}
    assert found.ready("app/a", [("app/a", "ready")], 2.0).server("app", "a").overrules == "drain"


def test_ready_keeps_weights():
    found = Overrides().weigh("app/a", 5, 1.0).put("app/a", "drain", 1.0).ready("app/a", [("app/a", "drain")], 2.0)
    assert found.server("app", "a").weight == 5
    assert found.server("app", "a").state is None


def test_forgetting_a_backend_forgets_its_servers():
    found = (
        Overrides().put("app/a", "drain", 1.0).weigh("app", 5, 1.0).put("apple", "drain", 1.0).put(NODE, "drain", 1.0)
    )
    assert found.forget("app").of.keys() == {"apple", NODE}
    assert found.forget(NODE).node is None
    assert found.node == "drain"


def test_each_command_counts():
    assert Overrides().put("app", "drain", 1.0).forget("app").serial == 2


def test_there_is_a_limit(monkeypatch):
    monkeypatch.setattr(overrides, "MOST", 2)
    found = Overrides().put("app/a", "drain", 1.0).put("app/b", "drain", 1.0)
    assert found.put("app/b", "maintenance", 2.0).server("app", "b").state == "maintenance"
    with pytest.raises(TooMany, match="gateway forget"):
        found.put("app/c", "drain", 1.0)
