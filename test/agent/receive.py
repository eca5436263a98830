"""Prints each datagram that a Unix socket receives as one line of JSON, as systemd's end of sd_notify(3)."""
import array, json, os, socket, sys

path = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("\0" + path[1:] if path.startswith("@") else path)
print("listening", flush=True)
while True:
    message, ancillary, _, _ = receiver.recvmsg(4096, socket.CMSG_SPACE(64))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) - len(data) % 4])
            # systemd-notify waits until its descriptor is closed (BARRIER=1).
            for descriptor in descriptors:
                os.close(descriptor)
    if message != b"BARRIER=1":
        print(json.dumps(message.decode()), flush=True)
