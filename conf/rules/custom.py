"""A rule in Python: half of the accounts, by their last digit, get the new version of /labs/."""

from typing import Any


def route(request: Any) -> dict[str, Any] | None:
    """Decide about a request; None lets the routes that follow decide."""
    account = request.cookie("account")
    if account is None:
        return {"redirect": {"to": f"/login?next={request.path}", "status": 303}}
    if account[-1:] in "02468":
        return {"backend": "static", "set_header": {"X-Lab": "new"}, "class": "lab"}
    return None
