"""Files of users: which hashes are read, and what is said of those that are not."""

import pytest

from gateway.config.htpasswd import BadUsers, parse

BCRYPT = "$2y$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u"


def test_the_hashes_of_htpasswd_and_crypt_are_read() -> None:
    content = (
        f"# staff\n\nanna:{BCRYPT}\n  bert:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=:comment\r\n"
        "cara:$apr1$saltsalt$RQ1O67WNZ3UCu4Vr9Zf9F1\ndora:ab01FAX.bQRSU\n"
    )
    users = parse(content.encode())
    assert list(users.hashes) == [b"anna", b"bert", b"cara", b"dora"]
    assert users.hashes[b"bert"] == "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
    assert [line for line, _ in users.warnings] == [6]


@pytest.mark.parametrize("line, said", [
    ("anna", "expected user:hash"),
    (":x", "expected user:hash"),
    ("anna:secret", "passwords as they are have no place here"),
    ("anna:{PLAIN}secret", "passwords as they are have no place here"),
    ("anna:{SHA}c2hvcnQ=", "not a SHA-1 hash"),
    ("anna:" + BCRYPT.replace("$10$", "$31$"), "cost 31 takes too long: at most 14"),
    ("anna:$6$rounds=99999999$salt$" + "a" * 86, "99999999 rounds takes too long"),
    ("a" * 256 + ":x", "more than 255 bytes"),
    ("# nobody", "there are no users"),
    (f"anna:{BCRYPT}\nanna:{BCRYPT}", "anna is given twice"),
])  # fmt: skip
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    with pytest.raises(BadUsers, match=said):
        parse(line.encode())
