"""SMTP server on the loopback that keeps the mails it is given."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile


class _Conversation(socketserver.StreamRequestHandler):
    """One client: every command is taken, and what follows DATA is kept."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                mail = b"".join(takewhile(lambda line: line not in {b".\r\n", b""}, self.rfile))
                self.server.received.append(mail)  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
            if command == b"QUIT":
                return


@contextmanager
def mails() -> Iterator[tuple[int, list[bytes]]]:
    """Have a server listen; return its port, and the mails that it will have got."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Conversation) as server:
        server.daemon_threads = True  # nobody waits for a client that says no more
        received: list[bytes] = []
        server.received = received  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1], received
        server.shutdown()
