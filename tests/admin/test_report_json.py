"""Reports survive JSON, and other JSON is refused with the place of the difference."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from gateway.admin import report_json
from tests.admin.reports import TREE, control, heartbeat


def through_json(report: Any) -> Any:
    return json.loads(json.dumps(asdict(report)))


def test_a_report_is_the_same_after_json() -> None:
    assert report_json.gateway(through_json(control())) == control()
    assert report_json.heartbeat(through_json(heartbeat())) == heartbeat()
    assert report_json.tree(through_json(TREE)) == TREE


def test_a_newer_gateway_may_report_more() -> None:
    assert report_json.tree({**through_json(TREE), "added": 1}) == TREE


@pytest.mark.parametrize("said", [None, [], {}, "text", {"backends": 1}])
def test_other_json_is_refused(said: object) -> None:
    with pytest.raises(report_json.Unreadable, match="differs"):
        report_json.gateway(said)


def test_the_place_of_a_difference_is_named_without_control_characters() -> None:
    said = through_json(control())
    said["refused"] = {"\x1b[2J": 1}
    with pytest.raises(report_json.Unreadable) as caught:
        report_json.gateway(said)
    assert "refused" in str(caught.value)
    assert "\x1b" not in str(caught.value)
