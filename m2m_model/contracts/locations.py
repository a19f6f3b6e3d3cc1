"""Locations and names that come from configs, manifests and specs, checked before anything is opened or written.

Credentials come from the environment or from files that a store's client reads by itself; never from a location, which
ends up in manifests, reports and messages.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator

SECRET = re.compile(r"secret|passw|token|(access|account|private)[._-]?key", re.IGNORECASE)
"""What the name of a setting that holds a secret looks like."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def location_problem(text: str) -> str | None:
    """What is wrong with a path or URI; never the text itself, which may hold a secret."""
    if any(ord(character) < ord(" ") for character in text):
        return "a location must not contain control characters"
    if "://" not in text:
        return None
    uri = urlsplit(text)
    # A secret that holds an unescaped slash ends the authority early: the @ then stands in the path.
    if (
        "@" in uri.netloc
        or (":" in uri.netloc and "@" in text)
        or any(SECRET.search(k) for k, _ in parse_qsl(uri.query))
    ):
        return (
            "a location must not carry credentials: pass them in the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY) or in the file that AWS_SHARED_CREDENTIALS_FILE names"
        )
    return None


def _location(text: str) -> str:
    if problem := location_problem(text):
        raise ValueError(problem)
    return text


def _inner_path(text: str) -> str:
    parts = text.split("/")
    if not text or "\\" in text or "\0" in text or PurePosixPath(text).is_absolute() or {"", ".", ".."} & set(parts):
        raise ValueError(f"must be a path inside the published folder, however: {text!r}")
    return text


def _run_name(text: str) -> str:
    if not RUN_NAME.fullmatch(text):
        raise ValueError(
            f"must be up to 64 letters, digits, dots, dashes and underscores, and begin with one of the first two, "
            f"however: {text!r}"
        )
    return text


Location = Annotated[str, AfterValidator(_location)]
"""A local path or a URI, without credentials."""
InnerPath = Annotated[str, AfterValidator(_inner_path)]
"""A path relative to a published folder that cannot lead out of it."""
RunName = Annotated[str, AfterValidator(_run_name)]
"""A name that becomes part of folder names."""
