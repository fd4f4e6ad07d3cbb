# SPDX-License-Identifier: Apache-2.0
"""Who may use the page: this machine, or whoever has the token; and from no other site's pages.

A page of any site in the user's browser can reach servers on loopback. Two checks keep it out:
the ``Host`` a request names must be this machine while there is no token (a foreign name that
was rebound to 127.0.0.1 is refused), and a WebSocket's ``Origin`` must be the page itself.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from urllib.parse import urlsplit

TOKEN_LENGTH = 16  # characters, at least
_TOKEN = re.compile(rf"[A-Za-z0-9._~-]{{{TOKEN_LENGTH},200}}")


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address means this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def check_token(token: str) -> str:
    """Return the token.

    Raises:
        ValueError: too short, or with characters that would not stand in a URL.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            f"the token must be {TOKEN_LENGTH} to 200 letters, digits, '.', '_', '~' or '-'"
        )
    return token


def same_token(given: str | None, token: str) -> bool:
    """Return whether a given token is the token, in a time that tells nothing about it."""
    return hmac.compare_digest((given or "").encode(errors="replace"), token.encode())


def host_refusal(host: str, token: str) -> str | None:
    """Return why a request that names this host is refused, None where it is accepted.

    With a token any name is accepted: a foreign page has no cookie with it.
    """
    if token or is_loopback(_name(host)):
        return None
    return f"host {host!r} is not this machine; open the page as localhost or 127.0.0.1"


def origin_refusal(origin: str | None, host: str) -> str | None:
    """Return why a WebSocket from a page of this origin is refused, None where it is accepted.

    Programs that are no browsers send no origin and are accepted.
    """
    if origin is None:
        return None
    try:
        parts = urlsplit(origin)
        same = parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
    except ValueError:
        same = False
    return None if same else f"origin {origin!r} is another site"


def _name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    return host.partition(":")[0]
