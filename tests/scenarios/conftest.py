"""Fixtures of the scenarios."""

import pytest

from tests.support.certificates import Authority
from tests.support.lives import Door


@pytest.fixture(scope="module", params=["plain", "tls"])
def door(request: pytest.FixtureRequest, authority: Authority) -> Door:
    """Both ways in, one after the other."""
    if request.param == "plain":
        return Door(None, {})
    return Door(authority.client_context(), {"tls": {"certificates": [authority.issue("localhost").as_site()]}})
