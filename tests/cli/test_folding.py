"""Lines of commands on a terminal."""

from gateway.cli.folding import folded


def test_the_rest_of_a_line_stands_where_its_text_begins() -> None:
    text = "\n".join(
        [
            "├─ short",
            "│    X-Long: " + "word " * 12 + "end",
            "└─ refused with 400: " + "because " * 9,
            "/etc/gateway/site.yaml:3:7: error: " + "what " * 12,
        ]
    )
    lines = folded(text, 60).split("\n")
    assert max(map(len, lines)) <= 60
    assert lines[0] == "├─ short"
    assert lines[2].startswith("│      word")
    assert [line[:5] for line in lines[3:5]] == ["└─ re", "     "]
    assert lines[-1].startswith("  what")
    assert " ".join("".join(line.strip("│├└─ ") + " " for line in lines).split()) == " ".join(
        "".join(line.strip("│├└─ ") + " " for line in text.split("\n")).split()
    )


def test_a_long_word_stays_whole_and_a_narrow_terminal_as_it_is() -> None:
    url = "https://www.example.com/" + "a" * 90
    assert url in folded(f"GET {url} and more words behind it", 80)
    assert folded("word " * 40, 20) == "word " * 40
