"""An application for gardens: listens where it was told, in each of the three ways, shows its
environment, and does what a request asks it to."""

import http.server
import json
import os
import socket
import sys
import time
import urllib.parse


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/crash":
            os._exit(3)
        if self.path.startswith("/notify/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as say:
                words = urllib.parse.unquote(self.path.removeprefix("/notify/"))
                say.sendto(words.encode(), os.environ["NOTIFY_SOCKET"])
        if self.path.startswith("/sleep/"):
            time.sleep(float(self.path.removeprefix("/sleep/")))
        body = json.dumps({"pid": os.getpid(), "env": dict(os.environ)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def address_string(self):
        return "peer"

    def log_message(self, form, *args):
        print("served " + form % args, flush=True)


class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        pass


def listening():
    if "LISTEN_FDS" in os.environ:
        assert os.environ["LISTEN_PID"] == str(os.getpid()), "LISTEN_PID is not ours"
        return socket.socket(fileno=3)
    if "LYCHGATE_SOCKET" in os.environ:
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(os.environ["LYCHGATE_SOCKET"])
        # The listener has an identity of its own.
        os.chmod(os.environ["LYCHGATE_SOCKET"], 0o666)
        return unix
    return socket.create_server(("127.0.0.1", int(os.environ["PORT"])))


if "fail" in sys.argv:
    sys.exit("cannot find my database")
server = Server(("", 0), Answer, bind_and_activate=False)
server.socket.close()
server.socket = listening()
server.server_name, server.server_port = "app", 0
server.socket.listen(64)
server.serve_forever()
