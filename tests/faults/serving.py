"""A server of one archive that misbehaves as told."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Serve:
    """Serves `url(content)`; `sent` bytes of it at most, in `pieces` with a wait for `more` between them."""

    def __init__(self) -> None:
        self.servers: list[ThreadingHTTPServer] = []
        self.more = threading.Semaphore(0)
        self.num_requests = 0

    def url(self, content: bytes, *, status: int = 200, sent: int | None = None, pieces: int = 1) -> dict[str, str]:
        serve = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                serve.num_requests += 1
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                told = content[:sent]
                size = -(-len(told) // pieces)
                for start in range(0, len(told), size):
                    if start:
                        serve.more.acquire()
                    self.wfile.write(told[start : start + size])

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who downloads may hang up
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.servers.append(server)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return {"url": f"http://127.0.0.1:{server.server_port}/cifar-100-python.tar.gz", "md5": md5}


@pytest.fixture
def serve() -> Iterator[Serve]:
    server = Serve()
    yield server
    for each in server.servers:
        server.more.release(1000)
        each.shutdown()
        each.server_close()
