/**
 * Values of flags, and texts of files, that the commands of `meshca tls` share.
 * @module
 */
import { consulKeyPem } from "../../agent/consul-api/sec1.ts";
import type { CaKey } from "../../core/x509/authority.ts";
import { usage } from "../output.ts";

/** Days of 100 years: RFC 5280 §4.1.2.5 has dates up to 9999, and 32-bit clocks end in 2106. */
const MAX_DAYS = 36_500;

/** A number of days. @throws {Failure} */
export function daysOf(text: string): number {
  const days = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (days >= 1 && days <= MAX_DAYS) return days;
  throw usage(`-days is a whole number from 1 to ${MAX_DAYS}, not ${JSON.stringify(text)}`);
}

/** PEM as Go writes it: `EC PRIVATE KEY` of an EC key, else PKCS#8. */
export async function keyText({ privateKey }: CaKey): Promise<string> {
  return consulKeyPem(new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey)));
}
