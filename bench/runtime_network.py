"""Two small servers for the runtime's bench, each in a process of its own so that neither shares an interpreter with what is
measured: a portal that answers `sync` with a file, and a proxy that delays every byte by half a round trip.

    python bench/runtime_network.py portal PORT FILE
    python bench/runtime_network.py delay PORT TARGET-PORT MILLISECONDS
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


async def portal(port: int, file: Path) -> None:
    """HTTP/1.1 with connections kept: GET gives the file, POST 204."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next((int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), 0)
                await reader.readexactly(length)
                body = file.read_bytes() if head.startswith("get") else b""
                status = "200 OK" if body else "204 No Content"
                kind = 'Content-Type: application/json\r\nETag: "bench"\r\n' if body else ""
                size = f"Content-Length: {len(body)}\r\n" if body else ""
                writer.write(f"HTTP/1.1 {status}\r\n{kind}{size}\r\n".encode() + body)
                await writer.drain()
        writer.close()

    await (await asyncio.start_server(serve, "127.0.0.1", port)).serve_forever()


async def delay(port: int, target: int, milliseconds: float) -> None:
    """Each direction is late by half of `milliseconds`; a connection is accepted at once and its first bytes are late."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at, data = await late.get()
                await asyncio.sleep(max(at - loop.time(), 0))
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        data = b"-"
        with contextlib.suppress(ConnectionError):
            while data:
                data = await reader.read(1 << 16)
                late.put_nowait((loop.time() + milliseconds / 2000, data))
        with contextlib.suppress(ConnectionError):
            await delivering

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    await (await asyncio.start_server(serve, "127.0.0.1", port)).serve_forever()


@contextmanager
def running(what: str, port: int, *words: object) -> Iterator[str]:
    """Start one of the two; yields its address."""
    process = subprocess.Popen([sys.executable, __file__, what, str(port), *map(str, words)])
    try:
        while not _listens(port):
            time.sleep(0.01)
            if process.poll() is not None:
                raise RuntimeError(f"{what} did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    what, port, *words = sys.argv[1:]
    if what == "portal":
        asyncio.run(portal(int(port), Path(words[0])))
    else:
        asyncio.run(delay(int(port), int(words[0]), float(words[1])))
