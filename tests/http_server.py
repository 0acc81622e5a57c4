"""HTTP server of made-up files on the loopback, for downloads."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """Answer to a request: its status, the content that it announces, and how many bytes of that are sent."""

    status: int
    content: bytes
    sent: int | None = None


def serve(answer: Callable[[str], Answer]) -> ThreadingHTTPServer:
    """Start a server whose answers are by the path, without its first slash; shut it down and close it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content, sent = answer(self.path[1:])
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sent])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server
