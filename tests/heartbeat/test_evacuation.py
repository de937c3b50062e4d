"""What the heartbeat process reads of the evacuation of its site."""

from gateway.heartbeat.evacuation import Evacuation
from gateway.process.bulletin import Bulletin


def test_a_change_is_seen_once_and_the_last_word_holds() -> None:
    control = Bulletin()
    evacuation = Evacuation(control)
    assert not evacuation.look(0.0), "control has said nothing yet"
    control.post({"sites": {}, "released": True})
    assert not evacuation.look(0.4), "it has looked just now"
    assert evacuation.look(0.5)
    assert evacuation.released
    assert not evacuation.look(1000.0), "it is silent, so nothing has changed"
    assert evacuation.released
    control.post({"sites": {}, "released": 1})
    assert evacuation.look(2000.0), "only true is true"
    assert not evacuation.released
