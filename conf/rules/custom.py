"""A rule in Python: every other visitor of /labs/, by the last digit of an account, gets the new version."""

from typing import Any


def route(request: Any) -> dict[str, Any] | None:
    """Decide about a request; None lets the routes that follow decide."""
    account = request.cookie("account")
    if account is None:
        return {"redirect": {"to": f"/login?next={request.path}", "status": 303}}
    if account[-1:] in "02468":
        return {"backend": "static", "set_header": {"X-Lab": "new"}, "class": "lab"}
    return None
