/**
 * Which servers may be asked as Vault. A configuration comes from anyone who may write it through
 * the API, and with it go tokens and files of this machine: so a server goes only where its own
 * settings let it go.
 * @module
 */

import { ConfigError } from "../../src/core/errors.ts";
import { type AddressRange, isInRange, isIpAddress, readRange } from "../../src/net/ip.ts";
import { VaultError } from "./errors.ts";

export interface AllowOptions {
  /** `host` or `host:port`, in lower case. */
  readonly hosts: readonly string[];
  readonly ranges: readonly AddressRange[];
  /** Whether loopback is allowed without being listed. */
  readonly loopback: boolean;
}

export interface AllowList {
  /** Whether a URL may be asked as far as its text tells. @throws {ConfigError} */
  check(url: URL): void;
  /**
   * Whether a URL may be asked at these addresses, all of them.
   * @throws {VaultError} `not_allowed`
   */
  checkAddresses(url: URL, addresses: readonly string[]): void;
}

const range = (text: string): AddressRange => {
  const read = readRange(text);
  if (read === null) throw new TypeError(`${text} is no range`);
  return read;
};

const LOOPBACK = ["127.0.0.0/8", "::1"].map(range);
/**
 * What no name of a server stands for: this host, link-local with its metadata services, and
 * multicast.
 */
const NEVER_BY_NAME = [
  ...LOOPBACK,
  ...[
    "0.0.0.0/8",
    "::",
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::/32",
    "224.0.0.0/3",
    "ff00::/8",
  ].map(range),
];

const inSome = (address: string, ranges: readonly AddressRange[]) =>
  ranges.some((candidate) => isInRange(address, candidate));

/** The address that a URL's host is, or null where it is a name. */
export function literalOf(url: URL): string | null {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return isIpAddress(host) ? host : null;
}

export function createAllowList({ hosts, ranges, loopback }: AllowOptions): AllowList {
  const listed = (url: URL) =>
    hosts.includes(url.hostname) ||
    hosts.includes(`${url.hostname}:${url.port || (url.protocol === "https:" ? "443" : "80")}`);
  const isAllowed = (url: URL, address: string) => {
    if (inSome(address, ranges)) return true;
    // Another name that leads to loopback was not meant when it was listed.
    if (inSome(address, LOOPBACK))
      return loopback || (listed(url) && (literalOf(url) !== null || url.hostname === "localhost"));
    return listed(url) && (literalOf(url) !== null || !inSome(address, NEVER_BY_NAME));
  };
  const refused = (url: URL, why: string) =>
    `Vault's address ${JSON.stringify(url.origin)} is not one that this server may ask: ${why}`;
  const hint = "name its host or its range of addresses in MESHCA_VAULT_ALLOW";

  return {
    check(url) {
      const literal = literalOf(url);
      const named =
        literal === null &&
        (listed(url) || ranges.length > 0 || (url.hostname === "localhost" && loopback));
      if (!named && (literal === null || !isAllowed(url, literal)))
        throw new ConfigError(refused(url, hint));
      const maybeLoopback =
        literal === null ? url.hostname === "localhost" : inSome(literal, LOOPBACK);
      if (url.protocol !== "https:" && !maybeLoopback)
        throw new ConfigError(refused(url, "plain HTTP is for loopback alone; use https"));
    },
    checkAddresses(url, addresses) {
      if (addresses.length === 0)
        throw new VaultError(
          "unreachable",
          `Vault: host ${JSON.stringify(url.hostname)} has no address`,
        );
      for (const address of addresses) {
        if (!isAllowed(url, address))
          throw new VaultError("not_allowed", refused(url, `it leads to ${address}; ${hint}`));
        if (url.protocol !== "https:" && !inSome(address, LOOPBACK))
          throw new VaultError(
            "not_allowed",
            refused(url, `it leads to ${address}, and plain HTTP is for loopback alone`),
          );
      }
    },
  };
}
