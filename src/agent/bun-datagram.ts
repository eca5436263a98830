/**
 * Datagrams to a Unix socket on Bun, by the C library: no runtime has them in its own API.
 * @module
 */
import { dlopen, FFIType, ptr } from "bun:ffi";

/** The C library by the names of glibc and musl. */
const LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];
/** AF_UNIX, SOCK_DGRAM with SOCK_CLOEXEC, MSG_NOSIGNAL with MSG_DONTWAIT of Linux. */
const [AF_UNIX, SOCK_DGRAM, SEND_FLAGS] = [1, 2 | 0o2000000, 0x4000 | 0x40];
const SYMBOLS = {
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  sendto: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i64,
  },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
} as const;

/**
 * A function that sends datagrams to a socket.
 * @param path of a socket, or `@` and the name of an abstract one.
 * @returns null if the C library cannot be called here
 */
export function openDatagram(path: string): ((message: string) => Promise<void>) | null {
  if (process.platform !== "linux") return null;
  const library = openLibrary();
  if (library === null) return null;
  const address = addressOf(path);
  return async (message) => {
    const { socket, sendto, close } = library.symbols;
    const bytes = new TextEncoder().encode(message);
    const descriptor = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (descriptor < 0) throw new Error("no datagram socket can be opened");
    try {
      const sent = sendto(
        descriptor,
        ptr(bytes),
        bytes.length,
        SEND_FLAGS,
        ptr(address),
        address.length,
      );
      if (Number(sent) !== bytes.length)
        throw new Error("the socket that NOTIFY_SOCKET names does not accept the message");
    } finally {
      close(descriptor);
    }
  };
}

function openLibrary() {
  for (const name of LIBRARIES)
    try {
      return dlopen(name, SYMBOLS);
    } catch {
      // Another C library.
    }
  return null;
}

/** A sockaddr_un (unix(7)): an abstract name begins with a NUL, a path ends with one. */
function addressOf(path: string): Uint8Array {
  const name = new TextEncoder().encode(path);
  const isAbstract = path.startsWith("@");
  const address = new Uint8Array(2 + name.length + (isAbstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  if (isAbstract) address[2] = 0;
  return address;
}
