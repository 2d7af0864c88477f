"""An application that writes down each request before it does anything, in the file SEEN, and
answers as the request asks: held, in pieces, with what it was sent, or as a tunnel."""

import http.server
import os
import socket
import sys
import time
import zlib

SEEN = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
SLOT = os.environ["LYCHGATE_SLOT"]
PIECE = bytes(range(256)) * 16


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def note(self):
        words = [self.command, self.path, SLOT, str(os.getpid())]
        os.write(SEEN, (" ".join(words) + "\n").encode())

    def do_GET(self):
        self.note()
        what, value, *_ = self.path.strip("/").split("/") + ["", ""]
        if what == "held":
            # Until the test lets it go.
            while not os.path.exists(os.path.join(os.path.dirname(os.environ["SEEN"]), value)):
                time.sleep(0.005)
        if what == "tunnel":
            return self.tunnel()
        if what == "pieces":
            return self.pieces(int(value), False)
        if what == "chunks":
            return self.pieces(int(value), True)
        crc, size = 0, 0
        for piece in self.body():
            crc, size = zlib.crc32(piece, crc), size + len(piece)
        self.whole(f"{SLOT} {os.getpid()} {size} {crc}".encode())

    do_POST = do_GET
    do_PUT = do_GET

    def body(self):
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 65536))
            assert piece, "cut short"
            left -= len(piece)
            yield piece

    def whole(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pieces(self, count, chunked):
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(count * len(PIECE)))
        self.end_headers()
        for _ in range(count):
            if chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
            else:
                self.wfile.write(PIECE)
            time.sleep(0.002)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def tunnel(self):
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "echo")
        self.end_headers()
        while piece := self.rfile.read1(65536):
            self.wfile.write(piece)
        self.close_connection = True

    def address_string(self):
        return "peer"

    def log_message(self, form, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request, client_address):
        # A client that leaves is no news.
        print("ended early:", sys.exc_info()[1], flush=True)

    def server_bind(self):
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "app", self.server_address[1]


Server(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
