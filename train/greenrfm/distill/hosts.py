"""Which server may read reports: this machine, and hosts that the user names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from greenrfm.errors import UserError

LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
# 127.1, 2130706433, 0x7f.0.0.1: what C libraries read as an IPv4 address although no one writes it so.
NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# urlsplit drops tabs and line breaks, and libraries differ about backslashes: none belongs into an address.
FORBIDDEN = re.compile(r"[\s\\\x00-\x20\x7f]")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Host:
    """A server that passed `check_endpoint`.

    Parameters
    ----------
    name
        Its name or IP address, in lower case and ASCII, without port or brackets.
    port
        Its TCP port.
    scheme
        "http" or "https".
    remote
        Whether it is another machine, so that reports leave this one.
    url
        The endpoint rebuilt from what was checked, without a slash at the end. Connect to this one and
        not to what the user wrote: another library might read that differently.
    """

    name: str
    port: int
    scheme: str
    remote: bool
    url: str


def check_endpoint(url: str, allowed: Sequence[str] = (), plain_http: bool = False) -> Host:
    """Return the host of an endpoint if reports may be sent there.

    127.0.0.0/8, ::1 and the name localhost are this machine and free. Every other host, also a name that
    happens to resolve to this machine, must be spelled the same in `allowed`; no name is resolved here.

    Parameters
    ----------
    url
        Such as http://127.0.0.1:11434/v1.
    allowed
        Names or IP addresses that the user allowed, without scheme and port; there are no patterns.
    plain_http
        Whether http without encryption to another host was allowed too.

    Raises
    ------
    UserError
        Where the host is not allowed, or the address is one that could be read in two ways: with a user
        name or password, with a query, with non-ASCII letters, or with an IP address in another spelling.
        The message names the host and never the rest of the address, which may hold a key.
    """
    parts = _split(url)
    name, port = _name(parts), _port(parts)
    remote = not _is_loopback(name)
    if remote and name not in {_canonical(entry) for entry in allowed}:
        raise UserError(
            f"the endpoint is on {name}, so reports would leave this machine; if that host may read them, "
            f"add --allow-host {name}"
        )
    if remote and parts.scheme == "http" and not plain_http:
        raise UserError(
            f"the endpoint on {name} uses http, so anyone on the way can read the reports; "
            "use https, or add --allow-plain-http if the network is yours"
        )
    bracketed = f"[{name}]" if ":" in name else name
    netloc = bracketed if parts.port is None else f"{bracketed}:{port}"
    return Host(name, port, parts.scheme, remote, f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable() from None
    # "localhost:11434/v1" is read as the scheme "localhost".
    if parts.scheme not in PORTS or not parts.netloc or FORBIDDEN.search(url):
        raise _unreadable()
    if "@" in parts.netloc:
        raise UserError(
            "the endpoint holds a user name or password; leave them out of the address "
            "(a key belongs into the environment variable GREENRFM_API_KEY)"
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UserError("the endpoint has a query (? or #) behind its path; leave that out")
    return parts


def _name(parts: SplitResult) -> str:
    """Return the host in the one spelling that is compared, or refuse it."""
    name = (parts.hostname or "").lower()
    if not name.isascii():
        raise UserError(
            "the endpoint's host has letters outside ASCII, which can look like another name; "
            f"if it is the one you mean, write it as {_punycode(name)}"
        )
    if parts.netloc.startswith("["):
        if not re.fullmatch(r"\[[^\]]*\](:\d*)?", parts.netloc):  # "[::1].evil.com"
            raise _unreadable()
        return _ipv6(name)
    if name.endswith("."):
        raise UserError(f"the endpoint's host {name} ends with a full stop; leave that out")
    if not NAME.fullmatch(name):
        raise _unreadable()
    if NUMERIC_END.fullmatch(name):
        return _ipv4(name)
    return name


def _ipv4(name: str) -> str:
    try:
        address = ipaddress.IPv4Address(name)
    except ValueError:
        raise UserError(
            f"the endpoint's host {name} is a number that programs read differently; "
            "write an IP address as four decimal numbers such as 127.0.0.1"
        ) from None
    return _not_any(str(address), address)


def _ipv6(name: str) -> str:
    try:
        address = ipaddress.IPv6Address(name)
    except ValueError:
        raise _unreadable() from None
    if address.scope_id or address.ipv4_mapped or address.sixtofour or address.teredo:
        raise UserError(
            f"the endpoint's host [{name}] is an IPv6 spelling of another address; write that address itself"
        )
    return _not_any(str(address), address)


def _not_any(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.is_unspecified:
        raise UserError(f"the endpoint's host {name} is an address to listen on; to connect, write 127.0.0.1")
    return name


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        raise _unreadable() from None
    if port == 0:
        raise _unreadable()
    return port or PORTS[parts.scheme]


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _canonical(entry: str) -> str:
    """Return what the user allowed as hosts are compared; anything that is no host matches none."""
    name = entry.lower().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _punycode(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return "its xn--… form"


def _unreadable() -> UserError:
    return UserError("the endpoint is no address that can be used; write it like http://127.0.0.1:11434/v1")
