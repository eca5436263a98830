/**
 * Serial numbers (RFC 5280 §4.1.2.2): positive, unique, unpredictable. Random, so that no counter
 * can be lost.
 * @module
 */
import type { Bytes } from "../bytes.ts";
import type { Random } from "../ports/clock.ts";

/** Octets of a serial number: 128 bits, below the 20 octets that RFC 5280 §4.1.2.2 allows. */
export const SERIAL_LENGTH = 16;

/**
 * Makes random serial numbers of 16 octets, as positive DER INTEGER content. The top two bits are
 * 01, so that the number is positive, minimal and always of one length; 126 bits are random, where
 * the CA/Browser Forum asks for 64. Randomness is taken in blocks, since a call for 16 octets costs
 * as much as one for 4096.
 */
export function createSerials(random: Random): () => Bytes {
  let pool = new Uint8Array(0) as Bytes;
  let offset = 0;
  return () => {
    if (offset + SERIAL_LENGTH > pool.length) {
      pool = random.bytes(256 * SERIAL_LENGTH);
      offset = 0;
    }
    const serial = pool.slice(offset, offset + SERIAL_LENGTH);
    offset += SERIAL_LENGTH;
    serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
    return serial;
  };
}
