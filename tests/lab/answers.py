#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A program that answers as a file says: answers.py KIND PORT FILE [CERTIFICATE] [CLIENT-CA]. Kinds: tcp, udp, dns, http,
https, h2, h2s, grpc. The file is JSON and is read again for every request; what it may say stands beside each kind. Prints
"listening" when it does."""

import http.server
import json
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time


def wanted():
    with open(FILE) as f:
        return json.load(f)


# tcp: greeting, reply (after something was read), close
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        say = wanted()
        self.request.sendall(say.get("greeting", "").encode())
        if "reply" in say:
            self.request.recv(1000)
            self.request.sendall(say["reply"].encode())
        if not say.get("close"):
            time.sleep(30)


# udp: reply; none: silent
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        say = wanted()
        if "reply" in say:
            self.request[1].sendto(say["reply"].encode("latin-1"), self.client_address)


def dns_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


# dns: rcode, answers: [[type number, text of an address]]; none: silent
class Dns(socketserver.BaseRequestHandler):
    def handle(self):
        say, query = wanted(), self.request[0]
        if "answers" not in say:
            return
        question = query[12 : query.index(b"\0", 12) + 5]
        records = b""
        for kind, text in say["answers"]:
            data = socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, text) if kind in (1, 28) else dns_name(text)
            records += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data
        head = query[:2] + struct.pack("!BBHHHH", 0x81, 0x80 | say.get("rcode", 0), 1, len(say["answers"]), 0, 0)
        self.request[1].sendto(head + question + records, self.client_address)


# http: status, body, size (of more body), delay; it prints the headers that it got
class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        say = wanted()
        print(json.dumps({"path": self.path, "method": self.command, "headers": dict(self.headers)}), flush=True)
        time.sleep(say.get("delay", 0))
        body = say.get("body", "").encode() + b"x" * say.get("size", 0)
        self.send_response(say.get("status", 200))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_GET

    def log_message(self, *words):
        pass


# h2: status, body
class H2(socketserver.BaseRequestHandler):
    def handle(self):
        import h2.config
        import h2.connection
        import h2.events

        say = wanted()
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        conn.initiate_connection()
        self.request.sendall(conn.data_to_send())
        while data := self.request.recv(65536):
            for event in conn.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    body = say.get("body", "").encode()
                    conn.send_headers(event.stream_id, [(":status", str(say.get("status", 200))), ("content-length", str(len(body)))])
                    conn.send_data(event.stream_id, body, end_stream=True)
            self.request.sendall(conn.data_to_send())


def tls(server, versions):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4])
    context.set_alpn_protocols(versions)
    if len(sys.argv) > 5:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(sys.argv[5])
    # the handshake is made in the request's own thread
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


# grpc: status (1 serving), code (of gRPC, an error); by gRPC's own library
def grpc_server():
    from concurrent import futures

    import grpc

    def check(request, context):
        say = wanted()
        service = request[2 : 2 + request[1]].decode() if request else ""
        if "services" in say and service not in say["services"]:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {service}")
        if "code" in say:
            context.abort(grpc.StatusCode[say["code"]], "as it was told")
        return b"\x08" + bytes([say["status"]]) if say.get("status") else b""

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        wanted().get("package", "grpc.health.v1.Health"), {"Check": grpc.unary_unary_rpc_method_handler(check)}),))  # fmt: skip
    server.add_insecure_port(f"[::]:{PORT}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


KIND, PORT, FILE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
HANDLERS = {"tcp": Tcp, "udp": Udp, "dns": Dns, "http": Http, "https": Http, "h2": H2, "h2s": H2}

if KIND == "grpc":
    grpc_server()
    sys.exit(0)


class Server(socketserver.ThreadingMixIn, socketserver.UDPServer if KIND in ("udp", "dns") else socketserver.TCPServer):
    address_family = socket.AF_INET6  # with IPv4 in it
    allow_reuse_address = daemon_threads = True
    request_queue_size = 100

    def get_request(self):
        if KIND in ("udp", "dns"):
            # an answer that comes from the address that was asked
            data, ancillary, _, peer = self.socket.recvmsg(65536, 500)
            return (data, Reply(self.socket, ancillary)), peer
        return super().get_request()

    def handle_error(self, request, address):
        pass


class Reply:
    def __init__(self, sock, ancillary):
        # from the address that was asked, but not through the device that it came in by, which may be a tunnel
        self.sock, self.ancillary = sock, [(a[0], a[1], a[2][:16] + bytes(4)) for a in ancillary if a[1] == socket.IPV6_PKTINFO]

    def sendto(self, data, peer):
        self.sock.sendmsg([data], self.ancillary, 0, peer)


server = Server(("::", PORT), HANDLERS[KIND])
if KIND in ("udp", "dns"):
    server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
if KIND in ("https", "h2s"):
    tls(server, ["h2"] if KIND == "h2s" else ["http/1.1"])
print("listening", flush=True)
threading.Thread(target=server.serve_forever).start()
