/**
 * The servers to which connections to Vault are allowed. Anyone who may write the configuration
 * through the API can name an address, to which tokens and files of this machine would go: so only
 * the settings of this server decide (CWE-918, server-side request forgery).
 * @module
 */
import { ConfigError } from "../../src/core/errors.ts";
import { type AddressRange, isInRange, isIpAddress, readRange } from "../../src/net/ip.ts";
import { VaultError } from "./errors.ts";

export interface EgressOptions {
  /** `host` or `host:port`, in lower case. */
  readonly hosts: readonly string[];
  readonly ranges: readonly AddressRange[];
  /** Whether loopback is allowed without being listed. */
  readonly loopback: boolean;
}

function rangesOf(...texts: readonly string[]): AddressRange[] {
  return texts.map((text) => {
    const read = readRange(text);
    if (read === null) throw new TypeError(`${text} is not an address range`);
    return read;
  });
}

const LOOPBACK = rangesOf("127.0.0.0/8", "::1");
/**
 * Addresses to which a name never leads: this host, link-local with the metadata services of
 * clouds (169.254.169.254, fd00:ec2::254), and multicast.
 */
const NEVER_BY_NAME = [
  ...LOOPBACK,
  ...rangesOf(
    "0.0.0.0/8",
    "::",
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::/32",
    "224.0.0.0/3",
    "ff00::/8",
  ),
];
const HINT = "list its host or its range of addresses in MESHCA_VAULT_ALLOW";

const inSome = (address: string, ranges: readonly AddressRange[]) =>
  ranges.some((range) => isInRange(address, range));

export class EgressAllowlist {
  readonly #options: EgressOptions;

  constructor(options: EgressOptions) {
    this.#options = options;
  }

  /** Checks what the text of a URL shows. @throws {ConfigError} */
  check(url: URL): void {
    const { ranges, loopback } = this.#options;
    const literal = literalAddress(url);
    const isLocalName = url.hostname === "localhost";
    const isAllowedName =
      literal === null && (this.#lists(url) || ranges.length > 0 || (isLocalName && loopback));
    if (!isAllowedName && (literal === null || !this.#allows(url, literal)))
      throw new ConfigError(refusal(url, HINT));
    const maybeLoopback = literal === null ? isLocalName : inSome(literal, LOOPBACK);
    if (url.protocol !== "https:" && !maybeLoopback)
      throw new ConfigError(refusal(url, "plain HTTP is allowed to loopback only; use https"));
  }

  /**
   * Checks all addresses of the URL's host.
   * @throws {VaultError} `not_allowed`; `unreachable` if there is none
   */
  checkAddresses(url: URL, addresses: readonly string[]): void {
    if (addresses.length === 0) throw noAddress(url);
    for (const address of addresses) {
      if (!this.#allows(url, address))
        throw new VaultError("not_allowed", refusal(url, `it leads to ${address}; ${HINT}`));
      if (url.protocol !== "https:" && !inSome(address, LOOPBACK))
        throw new VaultError(
          "not_allowed",
          refusal(url, `it leads to ${address}, and plain HTTP is allowed to loopback only`),
        );
    }
  }

  #lists({ hostname, port, protocol }: URL): boolean {
    const { hosts } = this.#options;
    const usualPort = protocol === "https:" ? "443" : "80";
    return hosts.includes(hostname) || hosts.includes(`${hostname}:${port || usualPort}`);
  }

  #allows(url: URL, address: string): boolean {
    const { ranges, loopback } = this.#options;
    if (inSome(address, ranges)) return true;
    const isLiteral = literalAddress(url) !== null;
    // A listed name that leads to loopback was not listed for that, unless it is localhost.
    if (inSome(address, LOOPBACK))
      return loopback || (this.#lists(url) && (isLiteral || url.hostname === "localhost"));
    return this.#lists(url) && (isLiteral || !inSome(address, NEVER_BY_NAME));
  }
}

/** The IP address that a URL has as host, without brackets; null if the host is a name. */
export function literalAddress({ hostname }: URL): string | null {
  const host = hostname.replace(/^\[|\]$/g, "");
  return isIpAddress(host) ? host : null;
}

export function noAddress({ hostname }: URL, cause?: unknown): VaultError {
  return new VaultError(
    "unreachable",
    `Vault: host ${JSON.stringify(hostname)} has no address; check the name and the resolver`,
    null,
    cause,
  );
}

function refusal(url: URL, why: string): string {
  return `Vault: address ${JSON.stringify(url.origin)} is not allowed by the settings of this server: ${why}`;
}
