"""Downloads a URL into memory: http and https only, public addresses only, bounded in time and size."""

import ipaddress
import queue
import socket
import threading
import time
import urllib.parse
from typing import Any

import requests

from visualization.files.printable import on_one_line

__all__ = ["fetch"]

_MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_HEADERS = {"User-Agent": "tfcap/1 (image_from_url)", "Accept": "image/*", "Connection": "close"}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def fetch(url: str, timeout: float, max_bytes: int, allow_private: bool = False) -> bytes:
    """Returns the body of the response to a GET request.

    The proxies that the environment names (``HTTPS_PROXY``, ``NO_PROXY`` ...) are used.

    Args:
        url: an http or https URL.
        timeout: seconds for everything: name lookup, redirects and the whole body.
        max_bytes: the largest body that is accepted.
        allow_private: also connect to private, loopback and other addresses that are not public.
            Through a proxy, which looks names up itself, only addresses written out can be checked.

    Raises:
        ValueError: the URL is not http(s), leads to an address that is not public, or has a body
            of more than `max_bytes`.
        OSError: the download fails. Every message starts with the URL and gives the cause.

    Example:
        >>> fetch("http://127.0.0.1/cat.jpg", timeout=5, max_bytes=10**6)
        Traceback (most recent call last):
        ValueError: http://127.0.0.1/cat.jpg: 127.0.0.1 has the address 127.0.0.1, ...
    """
    if not timeout > 0:
        raise ValueError(f"{url}: timeout is {timeout}, expected a positive number of seconds")
    result: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            result.put(_download(url, time.monotonic() + timeout, max_bytes, allow_private))
        except Exception as error:
            result.put(error)

    # In a thread, because no setting of requests limits a name lookup or headers that trickle in.
    threading.Thread(target=work, daemon=True).start()
    try:
        body = result.get(timeout=timeout)
    except queue.Empty:
        body = TimeoutError()
    if isinstance(body, bytes):
        return body

    cause: BaseException = body
    while inner := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__):
        cause = inner
    if isinstance(cause, TimeoutError):
        raise TimeoutError(f"{url}: no answer within {timeout:g} seconds") from body
    reason = str(body) if cause is body else f"{cause} ({type(cause).__name__})"
    reason = getattr(cause, "strerror", None) or reason
    kind = ValueError if isinstance(body, ValueError) else OSError
    raise kind(f"{url}: {on_one_line(reason, longest=400)}") from body


def _download(url: str, deadline: float, max_bytes: int, allow_private: bool) -> bytes:
    """Follows the redirects by hand, because requests reads their bodies without a limit."""
    session = requests.Session()
    location = url
    for _ in range(_MAX_REDIRECTS + 1):
        via = "" if location == url else f"redirected to {location}: "
        if not location.lower().startswith(("http://", "https://")):
            raise ValueError(f"{via}only http:// and https:// URLs are read")
        try:
            request = requests.Request("GET", location, headers=_HEADERS).prepare()
            target = request.url or ""
            urllib.parse.urlsplit(target)
        except Exception as error:  # of requests, urllib3 and Python, whose lists differ by version
            raise ValueError(f"{via}is not a valid URL: check it ({error})") from None
        settings: Any = session.merge_environment_settings(target, {}, True, None, None)
        if not allow_private:
            proxied = requests.utils.select_proxy(target, settings["proxies"]) is not None
            _check_address(target, via, proxied)
        remaining = max(deadline - time.monotonic(), 0.001)
        adapter = session.get_adapter(target)
        with adapter.send(request, timeout=remaining, **settings) as response:
            if redirect := session.get_redirect_target(response):
                try:
                    location = urllib.parse.urljoin(target, redirect)
                except ValueError:  # which a part of the redirect alone can cause; it is told above
                    location = redirect
                continue
            if response.status_code != 200:
                raise OSError(f"{via}the server answers {response.status_code} {response.reason}")
            return _body(response, deadline, max_bytes)
    raise OSError(f"more than {_MAX_REDIRECTS} redirects")


def _check_address(url: str, via: str, proxied: bool) -> None:
    """Raises ValueError if the host of `url` has an address that is not public."""
    host = urllib.parse.urlsplit(url).hostname
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST if proxied else 0)
    except socket.gaierror:
        found = []
    if not (found or proxied):
        raise OSError(f"{via}the host {host!r} was not found: check the URL and the network")
    for address in {str(entry[4][0]) for entry in found}:
        if not _is_public(address):
            raise ValueError(
                f"{via}{host} has the address {address}, which is not public: download the image "
                "yourself, or call image_from_url with allow_private=True"
            )


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = inside or ip.ipv4_mapped or ip.sixtofour or ip
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False  # among others site-local addresses and IPv4 in the old form ::127.0.0.1
    return ip.is_global and not ip.is_multicast


def _body(response: requests.Response, deadline: float, max_bytes: int) -> bytes:
    """The body as it was sent, undecoded: what unpacks to gigabytes stays packed."""
    body = bytearray()
    for chunk in response.raw.stream(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > max_bytes:
            raise ValueError(f"has more than {max_bytes:,} bytes, the limit")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)
