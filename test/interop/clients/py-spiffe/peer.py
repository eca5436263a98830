"""Peers on py-spiffe that make a mutual TLS handshake every 100 ms and say how many failed.

    peer.py serve SOCKET            its context for servers
    peer.py dial SOCKET HOST:PORT   its dialer

A server prints its address first. Each ends when its standard input does, with a summary.
"""

import json
import logging
import sys
import threading
import time
import warnings
from datetime import datetime, timezone
from socket import create_server

# The library calls what it deprecates itself.
warnings.simplefilter("ignore", DeprecationWarning)
# The source keeps each context that was made with it, and says of each that it cannot be changed.
logging.disable(logging.ERROR)

from cryptography import x509  # noqa: E402
from OpenSSL import SSL  # noqa: E402
from spiffe import X509Source  # noqa: E402
from spiffetls import dial  # noqa: E402
from spiffetls.context import create_ssl_context  # noqa: E402
from spiffetls.tlsconfig.authorize import authorize_member_of  # noqa: E402

EVERY = 0.1
REQUEST = b"GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


class Report:
    """What one side counts, as JSON lines on the standard output."""

    def __init__(self):
        self.lock = threading.Lock()
        self.handshakes = 0
        self.failures = 0
        self.sides = {"peer": {}, "own": {}}

    def event(self, **fields):
        print(json.dumps(fields), flush=True)

    def succeeded(self, peer, own):
        with self.lock:
            self.handshakes += 1
            if self.handshakes % 10 == 0:
                self.event(event="count", handshakes=self.handshakes)
            for side, leaf in (("peer", peer), ("own", own)):
                issuer = issuer_of(leaf)
                counts = self.sides[side]
                if issuer not in counts:
                    self.event(event="issuer", side=side, issuer=issuer)
                counts[issuer] = counts.get(issuer, 0) + 1

    def failed(self, side, error):
        with self.lock:
            self.failures += 1
            at = datetime.now(timezone.utc).isoformat()
            self.event(event="failure", error=f"{side}: {error!r}", at=at)

    def summary(self):
        with self.lock:
            self.event(
                event="summary",
                handshakes=self.handshakes,
                failures=self.failures,
                peers=self.sides["peer"],
                own=self.sides["own"],
            )


def issuer_of(leaf):
    """The authority key ID of a leaf in colon hex, as Consul's SigningKeyID is written."""
    extension = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return extension.value.key_identifier.hex(":")


def respond(conn):
    """Reads a request up to its empty line and answers it."""
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        read += conn.recv(4096)
    conn.sendall(ANSWER)


def serve(source, report, stop):
    """Makes a context for each connection, as dial() does: that of listen() cannot follow the source,
    since pyOpenSSL 26 refuses to change one that is in use.
    """
    own = source.get_x509_context().default_svid
    authorize = authorize_member_of(own.spiffe_id.trust_domain)
    verify = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    listener = create_server(("127.0.0.1", 0), backlog=64)
    host, port = listener.getsockname()
    report.event(event="listening", address=f"{host}:{port}")

    def handle(plain):
        conn = None
        try:
            context = create_ssl_context(SSL.TLS_SERVER_METHOD, source, authorize, verify)
            conn = SSL.Connection(context, plain)
            conn.set_accept_state()
            respond(conn)
            peer = conn.get_peer_certificate().to_cryptography()
            report.succeeded(peer, conn.get_certificate().to_cryptography())
            conn.shutdown()
        except Exception as error:  # pylint: disable=broad-except
            if not stop.is_set():
                report.failed("server", error)
        finally:
            (conn or plain).close()

    def accept():
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=handle, args=(plain,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    stop.wait()


def once(source, report, to):
    own = source.get_x509_context().default_svid
    authorize = authorize_member_of(own.spiffe_id.trust_domain)
    conn = dial(to, source, authorize_fn=authorize)
    try:
        conn.sendall(REQUEST)
        # With TLS 1.3 a refusal of this side's leaf comes with the first octets that are read.
        answer = conn.recv(12)
        if answer != ANSWER[:12]:
            raise ValueError(f"answer begins with {answer!r}")
        peer = conn.get_peer_certificate().to_cryptography()
        report.succeeded(peer, conn.get_certificate().to_cryptography())
    finally:
        conn.close()


def main():
    command, socket, *rest = sys.argv[1:]
    report = Report()
    stop = threading.Event()

    def wait_for_end():
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    with X509Source(socket_path=socket, timeout_in_seconds=20) as source:
        if command == "serve":
            serve(source, report, stop)
        while command == "dial" and not stop.is_set():
            began = time.monotonic()
            try:
                once(source, report, rest[0])
            except Exception as error:  # pylint: disable=broad-except
                report.failed("client", error)
            stop.wait(max(0, began + EVERY - time.monotonic()))
        report.summary()


main()
