"""Fetches a URL into memory: http and https, public addresses, bounded in time and size."""

import functools
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from typing import Any

MAX_REDIRECTS = 5
_HEADERS = {"User-Agent": "tfcap/1 (image_from_url)", "Accept": "image/*", "Connection": "close"}
_CHUNK = 64 * 1024
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def fetch(url: str, timeout: float, max_bytes: int, allow_private: bool = False) -> bytes:
    """The body that `url` answers with.

    Redirects are followed by hand, each checked like the first URL. A host's address is checked, and
    the connection made to that very address, so that a name cannot change its mind in between.
    Proxies are not used.

    Args:
        url: an http or https URL.
        timeout: seconds that the whole may take.
        max_bytes: the largest body that is accepted.
        allow_private: also connect to private, loopback and other addresses that are not public.

    Raises:
        ValueError: the URL is not http(s), leads to an address that is not public, or has a body
            of more than `max_bytes`.
        OSError: it cannot be fetched; the message says why.
    """
    deadline = time.monotonic() + timeout
    location = url
    for _ in range(MAX_REDIRECTS + 1):
        connection, target = _connection(location, url, deadline, allow_private)
        try:
            connection.request("GET", target, headers=_HEADERS)
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
                location = urllib.parse.urljoin(location, response.getheader("Location", ""))
                continue
            if response.status != 200:
                raise OSError(f"{url}: the server answers {response.status} {response.reason}")
            return _body(response, url, max_bytes)
        except TimeoutError:
            raise TimeoutError(f"{url}: no answer within {timeout:g} seconds") from None
        except ssl.SSLError as error:
            raise OSError(f"{url}: the secure connection failed: {error.reason}") from error
        except http.client.HTTPException as error:
            raise OSError(f"{url}: the answer is not HTTP: {error!r}") from error
        except OSError as error:
            if str(error).startswith(url):
                raise
            raise OSError(f"{url}: cannot be fetched: {error.strerror or error}") from error
        finally:
            connection.close()
    raise OSError(f"{url}: more than {MAX_REDIRECTS} redirects")


def _connection(
    location: str, url: str, deadline: float, allow_private: bool
) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the checked address of `location`'s host, not yet opened, and what to ask."""
    via = "" if location == url else f" (redirected to {location})"
    try:
        parts = urllib.parse.urlsplit(location)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url}{via}: is not a valid URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url}{via}: only http:// and https:// URLs are read")

    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, port)
    address = _public_address(host, connection.port, f"{url}{via}", deadline, allow_private)
    connection.timeout = _remaining(deadline, url)
    connection.response_class = functools.partial(  # type: ignore[assignment]
        _Response, deadline=deadline, url=url
    )
    # http.client connects through this hook: the checked address, and no second look at the name
    connection._create_connection = (  # type: ignore[attr-defined]
        lambda _, *arguments, **keywords: socket.create_connection(
            (address, connection.port), *arguments, **keywords
        )
    )
    safe = "%/:=&?~#+!$,;'@()*[]"
    target = urllib.parse.quote(parts.path or "/", safe=safe)
    if parts.query:
        target += "?" + urllib.parse.quote(parts.query, safe=safe)
    return connection, target


def _public_address(host: str, port: int, url: str, deadline: float, allow_private: bool) -> str:
    try:
        found = _resolved(host, port, url, deadline)
    except TimeoutError:
        raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{url}: the host {host!r} was not found: {reason}") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not allow_private and not _is_public(address):
            raise ValueError(
                f"{url}: {host} has the address {address} of a private network, which is refused: "
                "pass allow_private=True if you mean it"
            )
    return addresses[0]


def _resolved(host: str, port: int, url: str, deadline: float) -> list[Any]:
    """What `socket.getaddrinfo` finds; in a thread, because it has no limit of its own."""
    answer: list[Any] = []

    def look_up() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_remaining(deadline, url))
    if not answer:
        raise TimeoutError(f"{url}: the host {host!r} was not found before the timeout")
    if isinstance(answer[0], Exception):
        raise answer[0]
    return answer[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = inside or ip.ipv4_mapped or ip.sixtofour or ip
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False  # among others site-local addresses and IPv4 in the old form ::127.0.0.1
    return ip.is_global and not ip.is_multicast


def _remaining(deadline: float, url: str) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError(f"{url}: it takes longer than the timeout allows")
    return remaining


class _Response(http.client.HTTPResponse):
    """An answer of which each read, of the headers too, may take only what is left of the time."""

    def __init__(
        self, opened: socket.socket, *arguments: Any, deadline: float, url: str, **keywords: Any
    ) -> None:
        super().__init__(opened, *arguments, **keywords)
        self.fp = io.BufferedReader(_Limited(self.fp.detach(), opened, deadline, url))


class _Limited(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, opened: socket.socket, deadline: float, url: str) -> None:
        self._raw, self._opened, self._deadline, self._url = raw, opened, deadline, url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._opened.settimeout(_remaining(self._deadline, self._url))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _body(response: http.client.HTTPResponse, url: str, max_bytes: int) -> bytes:
    """Reads the answer, chunk by chunk, until it ends or grows too large."""
    if response.length is not None and response.length > max_bytes:
        raise ValueError(f"{url}: has {response.length:,} bytes, at most {max_bytes:,} are read")
    body = bytearray()
    while not response.isclosed():
        chunk = response.read1(_CHUNK)
        if not chunk:
            break
        body += chunk
        if len(body) > max_bytes:
            raise ValueError(f"{url}: has more than {max_bytes:,} bytes, which is the limit")
    if response.length:
        raise OSError(f"{url}: the connection ended {response.length:,} bytes too early")
    return bytes(body)
