"""HTTP servers on the loopback: of made-up files, for downloads; of those who are told of runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class Posted(NamedTuple):
    """Request that was sent to a server: its path, its headers in lower case, its content."""

    path: str
    headers: dict[str, str]
    content: bytes


class Listener:
    """A server that takes what is sent to it, and answers as it is told to."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.answers: list[Answer | None] = []
        """Of the next requests, in order; None keeps one waiting until the end. Then 200, as ntfy has it."""
        self.location = ""
        """Target of a redirect."""
        self.num_got = 0
        """Requests for a page, which nobody should make."""
        self._over = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                listener.posted.append(Posted(self.path, headers, content))
                answer = listener.answers.pop(0) if listener.answers else Answer(200, b'{"id":"x","event":"message"}')
                if answer is None:
                    listener._over.wait()
                    return
                self.send_response(answer.status)
                if listener.location:
                    self.send_header("Location", listener.location)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def do_GET(self) -> None:
                listener.num_got += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Listen no more; whoever asks is refused."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def listening() -> Iterator[Listener]:
    """Have a server listen."""
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()
