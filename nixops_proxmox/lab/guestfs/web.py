"""serve-http and fetch-http: what a demo's services are made of."""

from __future__ import annotations

import http.server
import os
import socket
import socketserver
import subprocess
import sys
import urllib.error
import urllib.request

from nixops_proxmox.lab.guestfs.disks import ToolError


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        """Both families by one socket; without the name look-up of the base class."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]


def serve(argv: list[str]) -> None:
    if len(argv) != 2:
        raise ToolError("usage: serve-http PORT HANDLER", 2)
    port, program = int(argv[0]), argv[1]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            environment = {**os.environ, "REQUEST_PATH": self.path, "REQUEST_METHOD": self.command}
            done = subprocess.run([program], env=environment, stdout=subprocess.PIPE, check=False)
            self.send_response(200 if done.returncode == 0 else 502)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(done.stdout)))
            self.end_headers()
            self.wfile.write(done.stdout)

    with Server(("::", port), Handler) as server:
        server.serve_forever()


def fetch(argv: list[str]) -> None:
    if not argv:
        raise ToolError("usage: fetch-http URL [SECONDS]", 2)
    seconds = float(argv[1]) if len(argv) > 1 else 5.0
    if not argv[0].startswith("http://"):
        raise ToolError("fetch-http: only http:// is known", 2)
    try:
        with urllib.request.urlopen(argv[0], timeout=seconds) as answer:  # noqa: S310
            body = answer.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ToolError(f"fetch-http: {argv[0]}: {error}") from error
    sys.stdout.buffer.write(body)
    sys.stdout.flush()
