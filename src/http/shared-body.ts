/**
 * Response bodies: compressed when they are large and the client takes it, and shared by all who
 * ask for the same.
 * @module
 */
import { parseAccept } from "hono/utils/accept";
import { writeJson } from "../consul/go-json.ts";
import { type Bytes, utf8 } from "../core/bytes.ts";
import type { Snapshot } from "../core/ca/snapshot.ts";
import { rootsJson, rootsPem } from "./wire.ts";

/** Consul compresses from about here on (consul-ca.md §1.1). */
const GZIP_FROM = 1400;

export interface Body {
  readonly type: string;
  readonly content: string | Bytes;
  /** Compressed at the first request for it; null where that does not pay. */
  gzip(): Promise<Bytes | null>;
}

/** A body that may be asked for often, or be large: octets that all its answers share. */
export function body(type: string, text: string): Body {
  const bytes = utf8(text);
  let compressed: Promise<Bytes> | undefined;
  return {
    type,
    content: bytes,
    async gzip() {
      if (bytes.length < GZIP_FROM) return null;
      compressed ??= compress(bytes);
      return compressed;
    },
  };
}

/** A body that is sent once, as it is: a certificate hardly gets smaller. */
export function plainBody(type: string, text: string): Body {
  return { type, content: text, gzip: async () => null };
}

async function compress(bytes: Bytes): Promise<Bytes> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export type RootsForm = "json" | "pretty" | "pem";

const cache = new WeakMap<Snapshot, Map<RootsForm, Body>>();

/** The roots answer of a snapshot: written once, however many thousand watch it. */
export function rootsBody(snapshot: Snapshot, form: RootsForm): Body {
  let forms = cache.get(snapshot);
  if (forms === undefined) {
    forms = new Map();
    cache.set(snapshot, forms);
  }
  let made = forms.get(form);
  if (made === undefined) {
    made =
      form === "pem"
        ? body("application/pem-certificate-chain", rootsPem(snapshot))
        : body("application/json", writeJson(rootsJson(snapshot), form === "pretty"));
    forms.set(form, made);
  }
  return made;
}

/**
 * Whether an Accept-Encoding header takes gzip (RFC 9110 section 12.5.3): by its own weight where
 * it is named, else by that of "*".
 */
export function takesGzip(header: string | undefined): boolean {
  const codings = parseAccept(header ?? "");
  const weightOf = (name: string) => codings.find(({ type }) => type.toLowerCase() === name)?.q;
  return (weightOf("gzip") ?? weightOf("*") ?? 0) > 0;
}
