"""A server for each test, that answers each prompt as a function says."""

import http.server
import json
import threading

import pytest

from harness.clients.base import Server


@pytest.fixture
def served():
    """Starts a server that answers each prompt as a function says: (status, headers, body)."""
    servers = []

    def start(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, body = answer(asked)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return Server("judge", f"http://127.0.0.1:{server.server_port}/v1", timeout_seconds=10)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
