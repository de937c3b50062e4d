"""What a site file needs of the account that starts the gateway."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.hardening import kernel
from gateway.supervisor import configuration
from gateway.supervisor.sockets import StartError

NET_ADMIN, NET_RAW, NET_BIND_SERVICE = 12, 13, 10
SITE: Any = SimpleNamespace(user="nobody", cluster=object())


def test_sharing_addresses_needs_root_or_two_capabilities(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for held in ({NET_BIND_SERVICE}, {NET_ADMIN}, {NET_RAW}):
        monkeypatch.setattr(kernel, "capabilities", lambda held=held: frozenset(held))
        with pytest.raises(StartError, match="needs CAP_NET_ADMIN and CAP_NET_RAW, or root"):
            configuration._account(SITE)
    monkeypatch.setattr(kernel, "capabilities", lambda: frozenset({NET_ADMIN, NET_RAW}))
    assert configuration._account(SITE) is None, "it stays the account that it is"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has them")
def test_capabilities_of_this_process():
    assert {NET_BIND_SERVICE, NET_ADMIN} <= kernel.capabilities()
