/**
 * Hosts, addresses and ports in settings.
 * @module
 */
import * as v from "valibot";
import {
  type AddressRange,
  isIpAddress,
  isLinkLocalAddress,
  isLoopbackAddress,
  isPublicAddress,
  isUnspecifiedAddress,
  readRange,
} from "../net/ip.ts";
import { listOf, parsed } from "./values.ts";

/** `HOST:PORT` to listen on, with IPv6 addresses in brackets. */
export const listenAddress = parsed((text) => {
  const [, host, digits] = /^(\[[0-9a-fA-F:]+\]|[^:[\]]+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  return host !== undefined && port <= 65535 ? { host: withoutBrackets(host), port } : null;
}, "must be HOST:PORT, for example 127.0.0.1:8500, with port 0 for a free one");

export interface Advertised {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  /** Null: the port that the server listens on. */
  readonly port: number | null;
}

/** `HOST` or `HOST:PORT` by which others reach this replica, with IPv6 addresses in brackets. */
export const advertisedAddress = parsed((text): Advertised | null => {
  const [, six, name, digits] =
    /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?$/.exec(text.toLowerCase()) ?? [];
  const host = six ?? name ?? "";
  const port = digits === undefined ? null : Number(digits);
  const isPort = port === null || (port > 0 && port <= 65_535);
  return isPort && isReachable(host, six !== undefined) ? { host, port } : null;
}, "must be HOST or HOST:PORT that others reach this replica by, with IPv6 in brackets, and not 0.0.0.0 or [::]");

/** Whether it is an address or a host name (RFC 1123 section 2.1), and not unspecified. */
function isReachable(host: string, six: boolean): boolean {
  if (six) return host.includes(":") && isIpAddress(host) && !isUnspecifiedAddress(host);
  if (/^[0-9.]+$/.test(host)) return isIpAddress(host) && !isUnspecifiedAddress(host);
  const isLabel = (label: string) => /^(?!-)[^.]{1,63}(?<!-)$/.test(label);
  return host.length <= 253 && host.split(".").every(isLabel);
}

/** Hosts as URLs have them, each with or without a port. */
export const urlHosts = v.pipe(
  v.string(),
  v.transform(listOf),
  v.array(
    v.pipe(
      v.string(),
      v.toLowerCase(),
      v.check(isUrlHost, "must be HOST or HOST:PORT, separated by commas, with IPv6 in brackets"),
      v.transform(inUrlForm),
    ),
  ),
);

function isUrlHost(entry: string): boolean {
  const match = /^(?:\[([0-9a-f:.]+)\]|[a-z0-9.-]+)(?::\d{1,5})?$/.exec(entry);
  if (match === null) return false;
  const [, six] = match;
  return six === undefined || (six.includes(":") && isIpAddress(six));
}

/** With IPv6 addresses in the spelling that URLs have (WHATWG URL, host serializing). */
function inUrlForm(entry: string): string {
  const end = entry.indexOf("]") + 1;
  return end === 0 ? entry : new URL(`http://${entry.slice(0, end)}`).hostname + entry.slice(end);
}

/** Names and addresses as a Host header has them, without ports. */
export const headerHosts = v.pipe(
  v.string(),
  v.toLowerCase(),
  v.transform((list) => list.split(",").map((name) => name.trim())),
  v.everyItem(
    (name) => /^([a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?|\[[0-9a-f:.]+\])$/.test(name),
    "must be names or addresses, separated by commas, without ports, and IPv6 in brackets",
  ),
);

/** Hosts, addresses and ranges of addresses. */
export const egressAllowlist = parsed((text) => {
  const ranges: AddressRange[] = [];
  const hosts: string[] = [];
  for (const entry of listOf(text)) {
    const range = readRange(entry);
    const host = addressWithPort(entry) ?? hostName(entry);
    if (range !== null) ranges.push(range);
    else if (host !== null) hosts.push(host);
    else return null;
  }
  return { hosts, ranges };
}, "must be HOST, HOST:PORT, ADDRESS, ADDRESS:PORT or ADDRESS/BITS, separated by commas");

/** `127.0.0.1:8200` or `[::1]:8200` in the form of a URL, or null for anything else. */
function addressWithPort(entry: string): string | null {
  const [, address, port] = /^([\d.]+|\[[0-9a-f:.]+\]):(\d{1,5})$/i.exec(entry) ?? [];
  if (address === undefined || !isIpAddress(withoutBrackets(address))) return null;
  return `${new URL(`http://${address}`).hostname}:${port}`;
}

function hostName(entry: string): string | null {
  const isName = /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?(:\d{1,5})?$/i.test(entry);
  return isName && !/^[\d.:]+$/.test(entry) ? entry.toLowerCase() : null;
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

/** Whether a host to listen on is loopback. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (!host.includes(":") && isLoopbackAddress(host));
}

/** A host and a port as a URL has them (RFC 3986 section 3.2.2). */
export function hostPort(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/**
 * The address of this replica, as others know it, `HOST:PORT`.
 * @param addresses of the network interfaces of this machine. On `0.0.0.0` or `[::]` without
 * MESHCA_ADVERTISE one of them is taken, by Consul's rule for `advertise_addr`
 * (agent/config/builder.go): the first private IPv4 address, on `[::]` the first IPv6 address. A
 * machine without any has only loopback.
 */
export function ownAddress(
  {
    advertised,
    listen,
  }: {
    readonly advertised: Advertised | null;
    readonly listen: { readonly host: string; readonly port: number };
  },
  addresses: readonly string[] = [],
): string {
  const host = advertised?.host ?? reachableAddresses(listen.host, addresses)[0] ?? "localhost";
  return hostPort(host, advertised?.port ?? listen.port);
}

/**
 * The addresses by which other machines may reach a server, the best one first: what it listens on,
 * or if that is `0.0.0.0` or `::`, the addresses of this machine.
 */
export function reachableAddresses(listen: string, addresses: readonly string[]): string[] {
  if (!isUnspecifiedAddress(listen)) return [listen];
  const usable = addresses.filter(
    (address) => !isLoopbackAddress(address) && !isLinkLocalAddress(address),
  );
  const isSix = (address: string) => address.includes(":");
  const [six, four] = [usable.filter(isSix), usable.filter((address) => !isSix(address))];
  const privateFirst = [
    ...four.filter((address) => !isPublicAddress(address)),
    ...four.filter(isPublicAddress),
  ];
  return isSix(listen) ? [...six, ...privateFirst] : privateFirst;
}
