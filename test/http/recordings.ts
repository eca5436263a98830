/**
 * Answers that a real Consul gave, and how one of ours is compared with them: what differs from run
 * to run (dates, IDs, certificates, indexes) is replaced by its kind, everything else must be the
 * same.
 * @module
 */
import { readFileSync } from "node:fs";
import type { RawAnswer } from "../fixtures/raw.ts";

export interface Recorded {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  /** The recording holds the beginning of the body only. */
  readonly cut?: true;
  /** The recording holds no body. */
  readonly bodyUnknown?: true;
}

/** An answer as it is compared. */
export interface Comparable {
  readonly status: number;
  /** By name in its spelling; null if the response lacks it. */
  readonly headers: Readonly<Record<string, string | null>>;
  readonly body: string;
  /** Whether it came only after the wait that the request asked for. */
  readonly blocked: boolean;
}

export interface RecordedCase {
  readonly request: {
    readonly method: string;
    readonly target: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string;
  };
  /**
   * Null: the connection was closed without one. None: what brings the server to the state of the
   * recording.
   */
  readonly answer?: Recorded | null;
  /** Whether the recorded answer came only after the wait. */
  readonly blocked?: boolean;
  /** Rows of the table of deviations in docs/http-api.md. */
  readonly deviates?: readonly string[];
  /** What differs in our answer. */
  readonly ours?: Partial<Comparable>;
}

export interface RecordedGroup {
  readonly name:
    | "dev agent"
    | "plain server"
    | "connect disabled"
    | "no leader"
    | "client agent"
    | "many roots";
  readonly cases: readonly RecordedCase[];
}

/** Every recording, in the order in which it was made. */
export const RECORDINGS = JSON.parse(
  readFileSync(new URL("../vectors/consul-1.16.6/http.json", import.meta.url), "utf8"),
) as readonly RecordedGroup[];

type Value =
  | null
  | boolean
  | number
  | string
  | readonly Value[]
  | { readonly [key: string]: Value };

const CERTIFICATE = /-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n/g;
const PRIVATE_KEY =
  /-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END [A-Z ]*PRIVATE KEY-----\n/g;

function normalText(key: string, text: string): string {
  if (/^(ActiveRootID|ID)$/.test(key))
    return text.replace(/^([0-9a-f]{2}:){19}[0-9a-f]{2}$/, "<id>");
  if (key === "SigningKeyID") return text.replace(/^([0-9a-f]{2}:){19,31}[0-9a-f]{2}$/, "<key id>");
  if (/TrustDomain$/.test(key))
    return text.replace(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=\.consul$|$)/, "<cluster>");
  if (/^Not(Before|After)$/.test(key))
    return text.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, "<instant>");
  return text.replace(CERTIFICATE, "<certificate>").replace(PRIVATE_KEY, "<private key>");
}

function normalValue(key: string, value: Value): Value {
  if (typeof value === "string") return normalText(key, value);
  if (typeof value === "number") return /Index$|^SerialNumber$/.test(key) ? 0 : value;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    const items = value as readonly Value[];
    // Roots are listed by their IDs, which are random: for the comparison, in the order in which
    // they were made.
    return (
      key === "Roots" ? items.toSorted((a, b) => createIndex(a) - createIndex(b)) : items
    ).map((item) => normalValue(key, item));
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, normalValue(name, inner)]),
  );
}

function createIndex(value: Value): number {
  return typeof value === "object" && value !== null && "CreateIndex" in value
    ? Number(value.CreateIndex)
    : 0;
}

/** The keys of JSON in their order, as far as it goes. */
function keysOf(json: string): string[] {
  return [...json.matchAll(/"([A-Za-z_]+)":/g)].map(([, key = ""]) => key);
}

function normalBody(type: string | null | undefined, body: string): string {
  if (type === "application/json")
    return JSON.stringify(normalValue("", JSON.parse(body) as Value));
  return body.replace(CERTIFICATE, "<certificate>\n");
}

/**
 * Makes two answers comparable.
 * @param blocked of the recorded one and of ours.
 */
export function comparable(
  recorded: Recorded,
  ours: RawAnswer,
  blocked: { readonly recorded: boolean; readonly ours: boolean },
): { readonly recorded: Comparable; readonly ours: Comparable } {
  const type = recorded.headers.find(([name]) => name === "Content-Type")?.[1];
  const oursType = ours.header("content-type");
  let [theirBody, ourBody] = ["", ""];
  if (recorded.cut === true && type === "application/json") {
    const keys = keysOf(recorded.body);
    theirBody = keys.join();
    ourBody = keysOf(ours.body).slice(0, keys.length).join();
  } else if (recorded.cut === true) {
    const line = (text: string) => text.split("\n")[0] ?? "";
    [theirBody, ourBody] = [line(recorded.body), line(ours.body)];
  } else if (recorded.bodyUnknown !== true) {
    theirBody = normalBody(type, recorded.body);
    ourBody = normalBody(oursType, ours.body);
  }
  return {
    recorded: {
      status: recorded.status,
      headers: normalHeaders(recorded.headers),
      body: theirBody,
      blocked: blocked.recorded,
    },
    ours: {
      status: ours.status,
      headers: normalHeaders(ours.headers),
      body: ourBody,
      blocked: blocked.ours,
    },
  };
}

/** What we send and Consul does not. */
const EXTRA_HEADERS: readonly string[] = [
  "X-Content-Type-Options",
  "X-Request-Id",
  "Cache-Control",
  "ETag",
  "X-Meshca-Renew-Window",
];

/**
 * Of a text that can be the same, the length counts; of any other, only that there is one way to
 * tell the end.
 */
function normalHeaders(headers: Recorded["headers"]): Record<string, string> {
  const plain = headers.some(
    ([name, value]) => name.toLowerCase() === "content-type" && value.startsWith("text/plain"),
  );
  const empty = headers.some(
    ([name, value]) => name.toLowerCase() === "content-length" && value === "0",
  );
  // On every answer, on refusals and on roots: the rows "extra-headers" and "cache-headers" of the
  // deviations, checked when answers are compared.
  const theirs = headers.filter(([name]) => !EXTRA_HEADERS.includes(name));
  const normal = theirs.map(([name, value]): [string, string] => {
    if (name === "Date") return [name, "<date>"];
    if (name === "X-Consul-Index" && !plain) return [name, "<index>"];
    if (/^(Content-Length|Transfer-Encoding)$/.test(name) && !plain && !empty)
      return ["<end of body>", "<told>"];
    return [name, value];
  });
  return Object.fromEntries(normal.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What a case expects of us: the recorded answer with our deviations. */
export function expected(recorded: Comparable, ours: Partial<Comparable>): Comparable {
  const body = ours.body ?? recorded.body;
  const merged: Record<string, string | null> = { ...recorded.headers, ...ours.headers };
  if (
    ours.body !== undefined &&
    merged["Content-Length"] !== undefined &&
    merged["Content-Length"] !== null
  )
    merged["Content-Length"] = String(Buffer.byteLength(body));
  const kept = Object.entries(merged).filter(([, value]) => value !== null);
  return {
    ...recorded,
    ...ours,
    body,
    headers: Object.fromEntries(kept.toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
}
