from gateway.demo.page import page


def test_page_says_who_answered_how_busy_and_after_how_long():
    text = page("app<1>", "Slow & steady.", 0.756, 40.4, 1234)
    for part in ("<h1>app&lt;1&gt;</h1>", "Slow &amp; steady.", "<b>76%</b>", "40&nbsp;ms", "1,234"):
        assert part in text
    assert "{{" not in text
