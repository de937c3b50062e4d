from rich.console import Console

from bench.figure import Figure, Figures
from bench.goals import GOALS, Goal, verdicts
from bench.report import tables


def figure(proxy, metric, *values, case="130 B"):
    return Figure(case, proxy, metric, values)


CPU = [figure("gateway", "cpu", 17.0), figure("nginx", "cpu", 20.0), figure("haproxy", "cpu", 25.0)]


def judged(*figures):
    return {verdict.goal.title(): verdict for verdict in verdicts(Figures(figures))}


def test_a_goal_is_relative_to_the_better_peer():
    found = judged(*CPU)
    assert list(found) == ["130 B: cpu / better peer"]
    assert found["130 B: cpu / better peer"].met
    slower = judged(figure("gateway", "cpu", 17.1), *CPU[1:])["130 B: cpu / better peer"]
    assert not slower.met
    assert slower.as_json() == {
        "goal": "130 B: cpu / better peer",
        "limit": 0.85,
        "value": 0.855,
        "low": 0.855,
        "high": 0.855,
        "met": False,
    }


def test_a_goal_may_be_a_number_a_least_number_or_relative_to_another_case():
    assert not judged(figure("gateway", "calls", 4.6))["130 B: calls"].met
    assert judged(figure("gateway", "calls", 4.5))["130 B: calls"].met
    assert not judged(figure("gateway", "reuse", 0.99))["130 B: reuse"].met
    assert judged(figure("gateway", "reuse", 0.996))["130 B: reuse"].met
    few, many = "130 B, 1 server", "130 B, 1,000 servers"
    flat = judged(figure("gateway", "cpu", 10.0, case=few), figure("gateway", "cpu", 12.0, case=many))
    assert [verdict.met for verdict in flat.values()] == [False]


def test_every_goal_has_a_title_of_its_own_and_nothing_is_judged_unmeasured():
    titles = [goal.title() for goal in GOALS]
    assert len(set(titles)) == len(titles)
    assert judged(figure("nginx", "cpu", 20.0), figure("haproxy", "calls", 9.0)) == {}
    assert Goal("x", "memory", 1.2, ("haproxy",)).title() == "x: memory / haproxy"


def text(figures, width=120):
    console = Console(width=width)
    with console.capture() as capture:
        for table in tables(figures, verdicts(figures)):
            console.print(table)
    return capture.get()


def test_tables_show_what_was_measured_and_whether_it_is_enough():
    more = [
        figure(proxy, metric, 1.0)
        for proxy in ("gateway", "nginx", "haproxy")
        for metric in ("user", "system", "rate", "calls")
    ]
    shown = text(Figures([*CPU, *more]))
    assert "17.0" in shown
    assert "0.85" in shown
    assert "met" in shown
    assert "calls, data system calls per request" in shown
    assert text(Figures()) == ""
