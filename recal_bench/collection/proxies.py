"""The proxy that the environment names for an address, as other programs find it too."""

from __future__ import annotations

import os
import urllib.request
from urllib.parse import urlsplit

from recal_bench.errors import EndpointError


def proxy_of(url: str) -> str | None:
    """The proxy for an address; None where it is reached directly.

    Raises EndpointError, which names the variable, where requests cannot go through it.
    """
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    name = next((each for each in (parts.scheme, "all") if proxies.get(each)), None)
    if name is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = proxies[name] if "://" in proxies[name] else f"http://{proxies[name]}"
    try:
        found = urlsplit(proxy)
        usable = found.scheme.lower() in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        usable = False
    if not usable:
        # Never the value: it may hold a password.
        scheme = proxy.partition("://")[0].lower()
        what = "a SOCKS proxy" if scheme.startswith("socks") else "no address such as http://host:3128"
        raise EndpointError(
            f"{variable_of(name)} names {what}, which requests cannot go through: name an http:// proxy there, or "
            f"leave this endpoint out of it with NO_PROXY={parts.hostname}"
        )
    return proxy


def variable_of(name: str) -> str:
    """The environment variable that names the proxy for `http`, `https` or `all`."""
    spellings = (f"{name}_proxy", f"{name}_PROXY".upper())
    return next((each for each in spellings if os.environ.get(each)), f"the system's {name} proxy")
