"""Telling somebody: the report with its alerts, POSTed as JSON.

The address may be a secret, so that both it and a token come from the environment alone: ``M2M_ALERT_WEBHOOK``, and
``M2M_ALERT_TOKEN``, which is sent as a bearer token where it is set.
"""

import http.client
import os
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from m2m_model.contracts.errors import UserError

ADDRESS, TOKEN = "M2M_ALERT_WEBHOOK", "M2M_ALERT_TOKEN"
SECONDS = 10.0
PAUSES = 1.0, 5.0
"""Seconds before the second and the third attempt."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another place."""

    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def webhook_address() -> str:
    """Where alerts go; empty: nowhere.

    Raises:
        UserError: the address is no http(s) URL; the message does not repeat it.
    """
    address = os.environ.get(ADDRESS, "")
    if address and (urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname):
        raise UserError(f"{ADDRESS} in the environment must be an http(s):// address, however: it is something else")
    return address


def post(address: str, content: str) -> str:
    """POST JSON ``content``; returns what went wrong, empty if nothing did. Never the address or the token.

    Whoever cannot be reached, or says that it is busy (429, 5xx), is asked three times.
    """
    problem, again = _post_once(address, content)
    for pause in PAUSES:
        if again:
            time.sleep(pause)
            problem, again = _post_once(address, content)
    return problem


def _post_once(address: str, content: str) -> tuple[str, bool]:
    """What went wrong, and whether another attempt may do better."""
    request = urllib.request.Request(address, data=content.encode(), headers={"Content-Type": "application/json"})
    if token := os.environ.get(TOKEN):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.build_opener(_NoRedirect()).open(request, timeout=SECONDS):
            return "", False
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}", error.code == 429 or error.code >= 500
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, True
    except ValueError as error:
        return type(error).__name__, False
