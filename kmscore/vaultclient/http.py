"""One bounded HTTP client, under the vault's client and under the portal's.

Pure. Bounded in every direction: a deadline for the whole answer, headers included, counted from when the request is
sent; a size; no redirect is followed; and nothing comes from the environment: no proxy, authority, cookie or credential.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import unquote

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ProxyError, SSLError, TimeoutError
from urllib3.util import make_headers, parse_url

from kmscore.vaultclient.deadline import timely
from kmscore.vaultclient.tls import tls_code

PIECE_BYTES: Final = 1024 * 1024

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
        self._pools = _pools(tls, limits, proxy)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        write: Callable[[bytes], object] | None = None,
    ) -> HttpAnswer:
        """One request. A file is sent piece by piece; `write` gets a 2xx answer piece by piece, of whatever size.

        Raises HttpFailed, and what `write` raises.
        """
        response = None
        try:
            response = self._pools.urlopen(
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
            content = self._content(response, write)
            return HttpAnswer(response.status, response.headers, content)
        except SSLError as error:
            code = tls_code(error)
        except ProxyError:
            code = "proxy"
        except (NewConnectionError, ProtocolError):
            code = "unreachable"
        except TimeoutError:
            code = "timeout"
        except _TooLarge:
            code = "too_large"
        except (HTTPError, UnicodeError, _Unsendable):
            code = "unreadable"
        finally:
            if response is not None and not response.closed:
                response.close()  # with something unread; a connection that was read to the end is back in the pool
        # Raised outside the handlers: a chained exception would keep the request, its token included, alive in tracebacks.
        raise HttpFailed(code)

    def _content(self, response: BaseHTTPResponse, write: Callable[[bytes], object] | None) -> bytes:
        if write is not None and response.status < 300:
            for piece in response.stream(PIECE_BYTES):
                write(piece)
            return b""
        # Whatever lengths it names, and however it sends it: more than this is never in memory.
        content = response.read(self._limits.most + 1)
        if len(content) > self._limits.most:
            raise _TooLarge
        return content


class _TooLarge(Exception):
    """The answer has more bytes than it may."""


class _Unsendable(Exception):
    """A header holds a line end."""


def _sized(headers: Mapping[str, str], body: Body | None) -> dict[str, str]:
    """The headers, and how long a file is: without it, it would be sent in chunks. Raises _Unsendable."""
    if any("\n" in text or "\r" in text for text in headers.values()):
        raise _Unsendable
    if body is None or isinstance(body, bytes):
        return dict(headers)
    return {**headers, "Content-Length": str(os.fstat(body.fileno()).st_size - body.tell())}


def _pools(tls: ssl.SSLContext | None, limits: Limits, proxy: str) -> PoolManager:
    named: dict[str, Any] = {"num_pools": 2, "maxsize": limits.pool, "ssl_context": tls}
    if proxy:
        login = parse_url(proxy).auth
        named["proxy_headers"] = make_headers(proxy_basic_auth=unquote(login)) if login else None
    manager = ProxyManager(proxy, **named) if proxy else PoolManager(**named)
    manager.pool_classes_by_scheme = {
        "http": timely(HTTPConnectionPool, limits.within),
        "https": timely(HTTPSConnectionPool, limits.within),
    }
    return manager
