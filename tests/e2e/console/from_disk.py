#!/usr/bin/env python3
"""A proxy in front of a node that serves the console from src/server/dashboard/files: a change shows after a reload, without compiling.

usage: from_disk.py NODE_PORT [--port PORT]
"""

import argparse
import gzip
import http.client
import http.server
import pathlib
import threading

FILES = pathlib.Path(__file__).parents[3] / "src/server/dashboard/files"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
# They belong to one connection, or the proxy sets them itself.
OWN_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "content-type", "etag"}


def file_of(path):
    """The file of the console with this path; None for every other path."""
    path = path.partition("?")[0]
    if path in ("/dashboard", "/dashboard/"):
        return FILES / "index.html"
    folder, _, name = path.rpartition("/")
    return FILES / name if folder == "/dashboard" and (FILES / name).is_file() else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node_port = 0

    def forward(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        upstream = http.client.HTTPConnection("127.0.0.1", self.node_port)
        try:
            file = file_of(self.path)
            # The page of the node has the headers that every file of the console has, such as the content security policy.
            upstream.request(self.command, "/dashboard" if file else self.path, body, {**self.headers, "Connection": "close"})
            response = upstream.getresponse()
            if file:
                self.answer_with(file, response)
            else:
                self.pass_on(response)
        except (OSError, http.client.HTTPException):
            # As if the node itself had not answered, or had ended; or the browser has gone.
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = forward

    def answer_with(self, file, response):
        response.read()
        content = gzip.compress(file.read_bytes(), 9)
        self.send_response(200)
        for name, value in response.getheaders():
            if name.lower() not in OWN_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Type", TYPES[file.suffix])
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", len(content))
        self.end_headers()
        self.wfile.write(content)

    def pass_on(self, response):
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in OWN_HEADERS or name.lower() in ("content-type", "content-encoding", "etag"):
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # Each part at once, for server-sent events.
        while part := response.read1(1 << 16):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        """A browser ends connections as it likes."""


def serve(node_port, port=0):
    """Starts the proxy in the background; returns its port."""
    handler = type("Handler", (Handler,), {"node_port": node_port})
    server = Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("node_port", type=int)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    print(f"http://127.0.0.1:{serve(options.node_port, options.port)}/dashboard", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
