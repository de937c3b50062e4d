import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.load.keys import ReportKeys, report_key

SECRET = b"a secret of the gateways alone"


def test_a_key_is_derived_as_rfc_5869_says() -> None:
    expected = HKDF(SHA256(), 32, salt=None, info=b"eddie load report key 1\0app1").derive(SECRET)
    assert report_key(SECRET, "app1") == expected.hex().encode()


def test_each_name_and_each_secret_has_its_key() -> None:
    found = {report_key(secret, name) for secret in (SECRET, SECRET + b"!") for name in ("a", "b", "ab", "a" * 64)}
    assert len(found) == 8


@pytest.mark.parametrize(
    "keys, server, expected",
    [
        (ReportKeys({"a": b"own"}, SECRET), "a", b"own"),
        (ReportKeys({"a": b"own"}, SECRET), "b", report_key(SECRET, "b")),
        (ReportKeys({"a": b"own"}), "b", None),
        (ReportKeys({}), "a", None),
    ],
)
def test_the_key_of_each_server(keys: ReportKeys, server: str, expected: bytes | None) -> None:
    assert keys.of(server) == keys.of(server) == expected
