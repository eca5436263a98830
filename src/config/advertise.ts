/**
 * The address that a replica is known by to its users: a replica that listens on all addresses
 * cannot tell it by itself.
 * @module
 */
import * as v from "valibot";
import { isIpAddress, isUnspecifiedAddress } from "../net/ip.ts";

export interface Advertised {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  /** Null: the one that the server listens on. */
  readonly port: number | null;
}

/** `HOST` or `HOST:PORT`, with IPv6 addresses in brackets. */
export const advertise = v.pipe(
  v.string(),
  v.toLowerCase(),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }): Advertised => {
    const [, six, name, digits] =
      /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
    const host = six ?? name ?? "";
    const port = digits === undefined ? null : Number(digits);
    if (isHost(host, six !== undefined) && (port === null || (port > 0 && port <= 65_535)))
      return { host, port };
    addIssue({
      message:
        "must be HOST or HOST:PORT that others reach this replica by, with IPv6 in brackets, and not 0.0.0.0 or [::]",
    });
    return NEVER;
  }),
);

/**
 * Whether a text is an address, or a name (RFC 1123 section 2.1), and not the unspecified address.
 */
function isHost(host: string, six: boolean): boolean {
  if (six) return host.includes(":") && isIpAddress(host) && !isUnspecifiedAddress(host);
  if (/^[0-9.]+$/.test(host)) return isIpAddress(host) && !isUnspecifiedAddress(host);
  return (
    host.length <= 253 &&
    host
      .split(".")
      .every(
        (label) =>
          label !== "" && label.length <= 63 && !label.startsWith("-") && !label.endsWith("-"),
      )
  );
}

/** A host and a port as a URL has them (RFC 3986 section 3.2.2). */
export function hostPort(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** What a replica calls itself. */
export function ownAddress({
  advertised,
  listen,
}: {
  readonly advertised: Advertised | null;
  readonly listen: { readonly host: string; readonly port: number };
}): string {
  return hostPort(advertised?.host ?? listen.host, advertised?.port ?? listen.port);
}
