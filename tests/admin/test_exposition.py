from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.exposition import Family, labels, text
from loadagent.printable import printable

values = st.text()
figures = st.one_of(st.integers(0, 2**53), st.floats(0.0, 1e18), st.booleans())


@given(st.lists(st.tuples(values, values, figures), min_size=1))
def test_a_parser_reads_the_page(samples):
    page = text([Family("a_total", "counter", "Help.", [(labels(one=one, two=two), n) for one, two, n in samples])])
    (family,) = text_string_to_metric_families(page)
    assert (family.type, family.documentation) == ("counter", "Help.")
    assert [(s.labels["one"], s.labels["two"], s.value) for s in family.samples] == [
        (printable(one), printable(two), float(n)) for one, two, n in samples
    ]


def test_a_figure_that_is_not_known_is_left_out():
    families = [Family("a", "gauge", "A.", [("", None)]), Family("b", "gauge", "B.", [("", 1), (labels(x="y"), None)])]
    assert text(families) == "# HELP b B.\n# TYPE b gauge\nb 1\n"
