"""A TLS peer on Python's ssl, as `PROGRAM verify CHAIN KEY ROOTS`.

It prints `port N` and reads lines. `client PORT` has it connect and verify what it is shown, `server` accept a client and
verify that; each prints `client ok`, or `server` and why not. With PEER_STRICT it verifies with the flags that
ssl.create_default_context() sets since Python 3.13; without, by OpenSSL's defaults.
"""

import os
import socket
import ssl
import sys

_, _, chain, key, roots = sys.argv


def context(protocol):
    made = ssl.SSLContext(protocol)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(roots)
    if "PEER_STRICT" in os.environ:
        made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


client = context(ssl.PROTOCOL_TLS_CLIENT)
server = context(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(chain, key)
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
for line in sys.stdin:
    role, *port = line.split()
    raw = socket.create_connection(("127.0.0.1", int(port[0]))) if port else listener.accept()[0]
    try:
        with (client if port else server).wrap_socket(raw, server_side=not port):
            print(role, "ok", flush=True)
    except (ssl.SSLError, OSError) as error:
        print(role, str(error).replace("\n", " "), flush=True)
    finally:
        raw.close()
