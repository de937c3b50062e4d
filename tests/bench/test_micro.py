import json

import pytest

from bench.farm import FarmFailed
from bench.micro import BASELINE, FEATURES, STEPS, TOLERANCE, WHOLE, compare, counts, environment, parsed
from tests.support.programs import needs, needs_header

PRINTED = """\
21,789,511 (100.0%)  PROGRAM TOTALS
--------------------------------------------------------------------------------
20,000,000 (91.80%)  ???:(below main) [/usr/bin/python3]
 4,418,000 (20.28%)  gateway/wire/head.c:__pyx_f_7gateway_4wire_4head_scan_request [/a/gateway/wire/head.so]
 4,400,000 (20.20%)  /a/gateway/wire/head.c:__pyx_f_7gateway_4wire_4head_scan_request
   100,000 ( 0.45%)  gateway/wire/head.c:__pyx_f_7gateway_4wire_4head_check_start [/a/gateway/wire/head.so]
   977,000 ( 4.48%)  gateway/wire/head.c:__pyx_f_7gateway_4wire_4head_find_end [/a/gateway/wire/head.so]
   619,000 ( 2.84%)  gateway/wire/edit.c:__pyx_f_7gateway_4wire_4edit_edit_request [/a/gateway/wire/edit.so]
   346,000 ( 1.58%)  gateway/wire/edit.c:__pyx_f_7gateway_4wire_4edit_edit_response [/a/gateway/wire/edit.so]
    32,000 ( 0.15%)  x/routes.c:__pyx_f_7gateway_5rules_6routes_10RouteTable_candidates [/a/routes.so]
    24,000 ( 0.11%)  x/routes.c:__pyx_f_7gateway_5rules_6routes_5Route_match_path
   435,999 ( 2.00%)  x/backend.c:__pyx_f_7gateway_5proxy_7backend_7Backend_pick [/a/backend.so]
   409,999 ( 1.88%)  x/policy.c:__pyx_f_7gateway_7balance_6policy_7Members_pick [/a/policy.so]
 1,565,000 ( 7.18%)  x/head.c:__pyx_f_7gateway_4wire_4head_scan_response [/a/head.so]
 5,499,000 (25.24%)  x/log.c:__pyx_f_7gateway_5proxy_3log_9AccessLog_add [/a/log.so]
"""


def test_inclusive_counts_are_read_by_step():
    found = parsed(PRINTED, 1000)
    assert found["request head: scan"] == 4518.0
    assert found["route"] == 56.0
    assert found["pick"] == pytest.approx(435.999)
    assert found[WHOLE] == pytest.approx(21789.511)
    assert set(found) == {*STEPS, WHOLE}


def test_a_function_that_is_gone_is_said():
    with pytest.raises(FarmFailed, match="AccessLog_add"):
        parsed(PRINTED.replace("AccessLog_add", "AccessLog_write"), 1000)


def test_only_more_than_the_tolerance_is_too_much():
    rows = compare(
        {"a": 105.0, "b": 105.1, "c": 50.0, "new": 9.0, WHOLE: 9.0}, {"a": 100.0, "b": 100.0, "c": 100.0, WHOLE: 1.0}
    )
    assert [row.step for row in rows if row.more] == ["b"]
    assert pytest.approx(0.05) == TOLERANCE


@needs("cc", "valgrind", "taskset")
@needs_header("openssl/ssl.h", "libssl-dev")
@pytest.mark.timeout(240)
def test_no_hot_function_makes_more_instructions_than_its_baseline():
    """After a change that is worth its cost: python -m bench.micro --keep."""
    baseline = json.loads(BASELINE.read_text())
    found = counts()
    assert set(found) == {*STEPS, WHOLE, *FEATURES.values()}
    assert all(1.0 < number < 1e7 for number in found.values())
    if baseline["environment"] != environment():
        pytest.skip(f"counted, not judged: the baseline is of {baseline['environment']}")
    assert set(baseline["instructions"]) == set(found)
    more = [row for row in compare(found, baseline["instructions"]) if row.more]
    assert not more, more
