/**
 * The URL of a store: `sqlite:PATH`, `memory:`, or Redis in one of its three forms.
 *
 *     redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?OPTIONS]
 *     redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...]/MASTER[/DB][?OPTIONS]
 *     redis+cluster://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][?OPTIONS]
 *
 * `rediss` instead of `redis` is TLS. A fault quotes nothing of a URL, which may have a password.
 * @module
 */

import { nearest } from "../core/nearest.ts";
import type { RedisSettings } from "../store/redis/settings.ts";
import { cannotRead } from "./file-errors.ts";
import { durationWithin } from "./values.ts";

export interface RedisUrl extends RedisSettings {
  readonly kind: "redis";
}

export type StoreUrl =
  | { readonly kind: "memory" }
  | { readonly kind: "sqlite"; readonly path: string }
  | RedisUrl;

export const STORE_FORMS =
  "must be sqlite:PATH, memory:, redis[s]://[USER:PASSWORD@]HOST[:PORT][/DB], redis[s]+sentinel://HOST[:PORT],.../MASTER[/DB] or redis[s]+cluster://HOST[:PORT],...";

/** The prefix of a store whose URL names none. */
const PREFIX = "meshca";

const OPTIONS = [
  "prefix",
  "ca",
  "cert",
  "key",
  "connect_timeout",
  "command_timeout",
  "wait",
  "sentinel_user",
  "sentinel_password",
] as const;
type Option = (typeof OPTIONS)[number];
type Mode = RedisUrl["mode"];

/** The default ports of Redis and Sentinel. */
const PORTS = { single: 6379, cluster: 6379, sentinel: 26379 } as const;

const URL_FORM =
  /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/?#]*)@)?([^@/?#]+)(\/[^?#]*)?(?:\?([^#]*))?$/;

/**
 * Reads the URL of a store.
 * @param readFile reads a PEM file that the URL names.
 * @param datacenter the name of this datacenter in a deployment of several: without a prefix in the
 * URL it is part of the prefix. @default a deployment of one
 * @returns the store, or every fault in words.
 */
export function readStoreUrl(
  text: string,
  readFile: (path: string) => string,
  datacenter: string | null = null,
): StoreUrl | readonly string[] {
  if (text === "memory:") return { kind: "memory" };
  if (/^sqlite:./.test(text)) return { kind: "sqlite", path: text.slice("sqlite:".length) };
  const match = URL_FORM.exec(text);
  if (match === null) return [STORE_FORMS];
  const [, secure, form, userinfo = "", hosts = "", path = "", query = ""] = match;
  const mode = (form ?? "single") as Mode;
  const faults: string[] = [];
  const options = readOptions(query, faults);
  const nodes = readNodes(hosts, mode, faults);
  const { master, db } = readPath(path, mode, faults);
  const tls = readTls(options, secure !== "", readFile, faults);
  const prefix = options.get("prefix") ?? PREFIX;
  if (!/^[A-Za-z0-9_.:-]{1,64}$/.test(prefix))
    faults.push("prefix must be 1 to 64 letters, digits, or any of _ . : -");
  const wait = options.get("wait") ?? "0";
  if (!/^\d$/.test(wait)) faults.push("wait must be a number of replicas, 0 to 9");
  if (mode === "cluster" && wait !== "0") faults.push("wait is not supported by a Cluster");
  if (mode !== "sentinel" && (options.has("sentinel_user") || options.has("sentinel_password")))
    faults.push("sentinel_user and sentinel_password need redis+sentinel://");
  const connectTimeoutMs = readTimeout("connect_timeout", 5000, options, faults);
  const commandTimeoutMs = readTimeout("command_timeout", 2000, options, faults);
  const [, user, password] = /^([^:]*)(?::(.*))?$/s.exec(userinfo) ?? [];
  const redis: RedisUrl = {
    kind: "redis",
    mode,
    nodes,
    master,
    username: decoded(user, faults),
    password: decoded(password, faults),
    sentinelUsername: options.get("sentinel_user") ?? null,
    sentinelPassword: options.get("sentinel_password") ?? null,
    db,
    tls,
    prefix,
    datacenterPrefix:
      datacenter === null || options.has("prefix") ? null : `${PREFIX}:${datacenter}`,
    connectTimeoutMs,
    commandTimeoutMs,
    waitReplicas: Number(wait),
  };
  return faults.length > 0 ? faults : redis;
}

function readNodes(hosts: string, mode: Mode, faults: string[]): RedisUrl["nodes"] {
  const nodes = hosts.split(",").map((host) => {
    const parts = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(host);
    const port = Number(parts?.[2] ?? PORTS[mode]);
    if (parts === null || port < 1 || port > 65535)
      faults.push("each host must be HOST or HOST:PORT, with an IPv6 address in brackets");
    return { host: (parts?.[1] ?? "").replace(/^\[|\]$/g, ""), port };
  });
  if (mode === "single" && nodes.length > 1)
    faults.push("several hosts need redis+sentinel:// or redis+cluster://");
  return nodes;
}

function readPath(path: string, mode: Mode, faults: string[]) {
  const segments = path
    .split("/")
    .slice(1)
    .filter((part, i) => part !== "" || i === 0);
  const master = mode === "sentinel" ? (segments.shift() ?? "") : null;
  if (master === "")
    faults.push(
      "redis+sentinel:// must name the master that the sentinels know: redis+sentinel://HOST:26379/MASTER",
    );
  const [number = "", ...rest] = segments;
  const isNumber = number === "" || /^\d{1,4}$/.test(number);
  if (!isNumber || rest.length > 0) faults.push("the path must be the number of a database");
  const db = Number(isNumber ? number : Number.NaN);
  if (mode === "cluster" && db !== 0) faults.push("a Cluster has no database numbers");
  return { master, db };
}

function readTls(
  options: ReadonlyMap<Option, string>,
  secure: boolean,
  readFile: (path: string) => string,
  faults: string[],
): RedisUrl["tls"] {
  const file = (option: Option): string | null => {
    const name = options.get(option);
    if (name === undefined) return null;
    try {
      return readFile(name);
    } catch (error) {
      faults.push(`${option}: ${cannotRead(name, error)}`);
      return null;
    }
  };
  const tls = { ca: file("ca"), cert: file("cert"), key: file("key") };
  if (!secure && (options.has("ca") || options.has("cert") || options.has("key")))
    faults.push("ca, cert and key need rediss://");
  if (options.has("cert") !== options.has("key")) faults.push("cert and key belong together");
  return secure ? tls : null;
}

function readTimeout(
  option: Option,
  byDefault: number,
  options: ReadonlyMap<Option, string>,
  faults: string[],
): number {
  const value = options.get(option);
  const ms = value === undefined ? byDefault : durationWithin(value, 50, 60_000);
  if (ms === null) faults.push(`${option} must be a duration from 50ms to 1m`);
  return ms ?? byDefault;
}

function readOptions(query: string, faults: string[]): Map<Option, string> {
  const options = new Map<Option, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    const known = OPTIONS.find((option) => option === name);
    const near = nearest(name, OPTIONS);
    if (known !== undefined && value !== "") options.set(known, value);
    else if (known !== undefined) faults.push(`${known} must not be empty`);
    else
      faults.push(
        near === null
          ? `an option is unknown; known are ${OPTIONS.join(", ")}`
          : `an option is unknown; did you mean ${near}?`,
      );
  }
  return options;
}

/** A percent-encoded part; null if it is empty. */
function decoded(part: string | undefined, faults: string[]): string | null {
  if (part === undefined || part === "") return null;
  try {
    return decodeURIComponent(part);
  } catch {
    faults.push("user and password must be percent-encoded if they have special characters");
    return null;
  }
}
