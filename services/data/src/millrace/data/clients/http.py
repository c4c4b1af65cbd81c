"""HTTP and HTTPS, to public addresses only: resolved once, checked, and connected to as checked."""

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
from millrace.data.clients.sources import Limits, parts_of, store
from millrace.runtime.errors import InvalidInput, NotFound, Unavailable

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
PORTS = {"http": 80, "https": 443}

_NAT64 = ipaddress.ip_network("64:ff9b::/32")


def fetch_http(uri: str, path: Path, limits: Limits) -> str:
    """Copy what an HTTP server answers to `path` and return the bytes' SHA-256, hex.

    Raises:
        InvalidInput: The host is not public and not allowed, the server refuses, or it is too large.
        NotFound: The server has no such thing.
        Unavailable: The server does not answer, or not in time.
    """
    deadline = time.monotonic() + limits.timeout_s
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        with httpx.Client(trust_env=False, follow_redirects=False, timeout=timeout) as client:
            for _ in range(MAX_REDIRECTS + 1):
                with closing(client.send(_checked_request(client, uri, limits), stream=True)) as response:
                    if not response.has_redirect_location:
                        _check_answer(response)
                        return store(_in_time(response, deadline), path, limits.max_bytes)
                    uri = str(httpx.URL(uri).join(response.headers["Location"]))
    except httpx.InvalidURL:
        raise InvalidInput("it is no URI, or redirects to what is none") from None
    except httpx.TimeoutException:
        raise Unavailable("the server did not answer in time") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"the server could not be read from: {type(error).__name__}") from None
    raise InvalidInput(f"it redirects more than {MAX_REDIRECTS} times")


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, in no disguise."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in _NAT64):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_unspecified)


def _checked_request(client: httpx.Client, uri: str, limits: Limits) -> httpx.Request:
    """Return a request to the very address that was checked, still by the host's name for TLS and the server."""
    parts = parts_of(uri)
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    if not port or not host:
        raise InvalidInput("it is read from files and from http and https servers only")
    address = _resolve(host, port)
    if f"{host}:{port}" not in limits.allowed_hosts and not is_public(address):
        raise InvalidInput(f"{host}:{port} is not public: the setting allowed_hosts names the others that may be asked")
    headers = {"Host": parts.netloc, "Accept-Encoding": "identity", "User-Agent": "millrace-data"}
    url = httpx.URL(uri).copy_with(host=address, fragment=None)
    return client.build_request("GET", url, headers=headers, extensions={"sni_hostname": host})


def _resolve(host: str, port: int) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unavailable(f"{host} has no address") from None
    return str(found[0][4][0])


def _check_answer(response: httpx.Response) -> None:
    status = response.status_code
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise NotFound(f"the server answers {status}")
    if response.is_server_error or status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT}:
        raise Unavailable(f"the server answers {status}")
    if status != httpx.codes.OK:
        raise InvalidInput(f"the server answers {status}, not 200")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise InvalidInput("the server sends it in another encoding than asked for")


def _in_time(response: httpx.Response, deadline: float) -> Iterator[bytes]:
    for chunk in response.iter_raw():
        if time.monotonic() > deadline:
            raise Unavailable("the server did not send it in time")
        yield chunk
