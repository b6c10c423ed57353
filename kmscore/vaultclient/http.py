"""One bounded HTTP client, under the vault's client and under the portal's.

Pure. Bounded in every direction: a deadline for the whole answer, headers included, counted from when the request is
sent; a size, of what comes and of what is kept; no redirect is followed; and nothing comes from the environment: no proxy,
authority, cookie or credential.
"""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import IO, Any, Final
from urllib.parse import unquote

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import NewConnectionError, ProtocolError, ProxyError, SSLError, TimeoutError
from urllib3.util import make_headers, parse_url

from kmscore.vaultclient.deadline import TooMuch, Unframed, timely
from kmscore.vaultclient.tls import tls_code

PIECE_BYTES: Final = 1024 * 1024
FRAME_BYTES: Final = 1024 * 1024  # for headers, interim answers and what divides an answer into chunks

Body = bytes | IO[bytes]


class HttpFailed(Exception):
    """No whole answer came; holds nothing of the request or the answer.

    code: timeout, unreachable (nobody there, or it broke off), proxy, too_large, unreadable (no request can be made of
    this, or no answer read from that), or one of tls.TLS_SENTENCES.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer of any status; the names of `headers` are found however they are written."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def media_type(self) -> str:
        """In lower case and without parameters: ``application/json``; "" when none is said."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to connect; to wait for each piece of an answer; for all of it. Bytes an answer may have. Kept connections."""

    connect: float
    silence: float
    within: float
    most: int
    pool: int = 4


class HttpClient:
    """One server's address, and connections to it that are kept. Threads may share it."""

    def __init__(self, address: str, tls: ssl.SSLContext | None, limits: Limits, *, proxy: str = "") -> None:
        """address: scheme, host and port. tls: whom to trust; None for http. proxy: ``http://user:password@host:port``."""
        self.address, self._limits = address, limits
        self._timeout = Timeout(connect=limits.connect, read=limits.silence)
        self._made = partial(_pools, tls, limits, proxy)
        self._pools = self._made(limits.most + FRAME_BYTES)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        write: Callable[[bytes], object] | None = None,
    ) -> HttpAnswer:
        """One request. A file is sent piece by piece; `write` gets a 2xx answer piece by piece, of whatever size, and none
        that does not say where it ends: of those nobody knows whether they came whole.

        Raises HttpFailed, and what `write` raises.
        """
        response, writing = None, False
        pools = self._pools if write is None else self._unlimited
        try:
            response = pools.urlopen(
                method,
                self.address + path,
                body=body,
                headers=_sized(headers, body),
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,  # no encoding is asked for; one that comes unasked could unfold without bound
            )
            if write is None or response.status >= 300:
                return HttpAnswer(response.status, response.headers, self._whole(response))
            if not _is_framed(response):
                raise Unframed
            while piece := response.read(PIECE_BYTES):
                writing = True
                write(piece)
                writing = False
            return HttpAnswer(response.status, response.headers, b"")
        except Exception as error:
            if writing:
                raise
            # Whatever it is: beside its own errors the HTTP machinery lets others out, for answers nobody foresaw.
            code = _code_of(error)
        finally:
            if response is not None and not response.closed:
                with suppress(Exception):
                    response.close()  # with something unread; one that was read to the end is back in the pool
        # Raised outside the handlers: a chained exception would keep the request, its token included, alive in tracebacks.
        raise HttpFailed(code)

    @cached_property
    def _unlimited(self) -> PoolManager:
        """For answers of whatever size, of which no more than a piece is ever in memory."""
        return self._made(math.inf)

    def _whole(self, response: BaseHTTPResponse) -> bytes:
        # Whatever lengths it names, and however it sends it: more than this is never in memory.
        content = response.read(self._limits.most + 1)
        if len(content) > self._limits.most:
            raise TooMuch
        # A port that wants TLS says 400 without a length: of an error, a part says enough.
        enough = _is_framed(response) or (content and response.status >= 400)
        if response.length_remaining or not enough:
            raise ProtocolError  # it broke off
        return content


def _is_framed(response: BaseHTTPResponse) -> bool:
    """Whether it says where it ends; one that does not is not told from one that broke off (RFC 9112, 6.3)."""
    measured = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    return measured or response.status in (204, 304)


def _code_of(error: Exception) -> str:
    """HttpFailed's code for whatever the HTTP machinery raises."""
    if isinstance(error, SSLError):
        return tls_code(error)
    if isinstance(error, ProxyError):
        return "proxy"
    if isinstance(error, (NewConnectionError, ProtocolError)):
        return "unreachable"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "too_large" if isinstance(error, TooMuch) else "unreadable"


class _Unsendable(Exception):
    """A header holds a line end."""


def _sized(headers: Mapping[str, str], body: Body | None) -> dict[str, str]:
    """The headers, and how long a file is: without it, it would be sent in chunks. Raises _Unsendable."""
    if any("\n" in text or "\r" in text for text in headers.values()):
        raise _Unsendable
    if body is None or isinstance(body, bytes):
        return dict(headers)
    return {**headers, "Content-Length": str(os.fstat(body.fileno()).st_size - body.tell())}


def _pools(tls: ssl.SSLContext | None, limits: Limits, proxy: str, allowed: float) -> PoolManager:
    named: dict[str, Any] = {"num_pools": 2, "maxsize": limits.pool, "ssl_context": tls}
    if proxy:
        login = parse_url(proxy).auth
        named["proxy_headers"] = make_headers(proxy_basic_auth=unquote(login)) if login else None
    manager = ProxyManager(proxy, **named) if proxy else PoolManager(**named)
    manager.pool_classes_by_scheme = {
        "http": timely(HTTPConnectionPool, limits.within, allowed),
        "https": timely(HTTPSConnectionPool, limits.within, allowed),
    }
    return manager
