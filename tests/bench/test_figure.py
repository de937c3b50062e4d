import pytest

from bench.figure import Figure, Figures


def cpu(proxy, *values):
    return Figure("130 B", proxy, "cpu", values)


def test_median_and_quartiles_are_those_of_the_rounds():
    figure = cpu("gateway", 30.0, 18.0, 19.0, 20.0, 21.0)
    assert figure.median == 20.0
    assert figure.quartiles == (19.0, 21.0)
    assert cpu("gateway", 7.0).quartiles == (7.0, 7.0)


def test_ratio_is_taken_round_by_round_so_that_drift_cancels_out():
    ratio = cpu("gateway", 10.0, 20.0, 40.0).over(cpu("nginx", 20.0, 40.0, 80.0))
    assert (ratio.median, ratio.quartiles) == (0.5, (0.5, 0.5))


def test_figures_are_found_and_the_better_peer_is_the_one_with_the_smaller_median():
    figures = Figures([cpu("gateway", 1.0), cpu("nginx", 20.0, 20.0, 99.0), cpu("haproxy", 25.0, 25.0, 1.0)])
    assert figures.least("130 B", ("nginx", "haproxy"), "cpu") == cpu("nginx", 20.0, 20.0, 99.0)
    assert figures.least("130 B", ("apache",), "cpu") is None
    assert figures.proxies("130 B") == ["gateway", "nginx", "haproxy"]
    assert figures.get("10 KB", "gateway", "cpu") is None
    with pytest.raises(ValueError, match="measured twice"):
        figures.add(cpu("gateway", 2.0))
