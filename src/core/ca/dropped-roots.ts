/**
 * Roots that an operator dropped since others may know their keys: what of the state goes with them,
 * and who still trusts them. A certificate that another root made for a dropped one lets whoever has
 * the key of that one be trusted by all who trust the other root. Pure functions.
 * @module
 */
import { colonHex, hex } from "../bytes.ts";
import { ConflictError } from "../errors.ts";
import {
  type CaState,
  type DroppedRoot,
  MAX_DROPPED,
  type RootEntry,
  type TrustedThrough,
} from "../state.ts";
import type { Certificate } from "../x509/certificate.ts";
import { couldHaveIssued, sameAuthority } from "../x509/chain.ts";
import { keyIdOf } from "../x509/keys.ts";
import { candidatePool } from "./cross-chain.ts";

/** A published root through which a dropped one is trusted, and until when. */
export interface TrustOfDropped extends TrustedThrough {
  readonly droppedId: string;
}

/** The roots with the key of a root: to drop one of them is to drop the key. */
export function rootsOfKey(roots: readonly RootEntry[], { certificate }: RootEntry): RootEntry[] {
  const key = hex(certificate.key.spki);
  return roots.filter((root) => hex(root.certificate.key.spki) === key);
}

/**
 * The roots that certified some others, directly or through further ones.
 * @param to they are not in the result. @param now certificates that have expired by then do not count.
 */
export function trustedThrough(
  roots: readonly RootEntry[],
  to: readonly RootEntry[],
  now: Date,
): TrustedThrough[] {
  const ends = new Map(to.map(({ certificate }) => [authorityOf(certificate), Infinity]));
  return throughThese(roots, ends, now).filter(
    ({ rootId }) => !to.some((root) => root.id === rootId),
  );
}

/**
 * Who of the published roots makes dropped ones be trusted. Certificates that were made since count,
 * too: another root may certify one that certified a dropped one.
 */
export function trustOfDropped(
  { roots, dropped }: Pick<CaState, "roots" | "dropped">,
  now: Date,
): TrustOfDropped[] {
  return dropped.flatMap(({ id, through }) => {
    const ends = new Map(
      through.flatMap(({ rootId, until }) => {
        const root = roots.find((entry) => entry.id === rootId);
        return root === undefined || until <= now
          ? []
          : [[authorityOf(root.certificate), until.getTime()] as const];
      }),
    );
    return throughThese(roots, ends, now).map((found) => ({ ...found, droppedId: id }));
  });
}

/**
 * Follows certificates from their subjects to their issuers.
 * @param ends until when each authority is trusted, or leads to one that is; it grows.
 */
function throughThese(
  roots: readonly RootEntry[],
  ends: Map<string, number>,
  now: Date,
): TrustedThrough[] {
  const made = candidatePool(roots).filter(({ notAfter }) => notAfter > now);
  const issuers = [...roots.map(({ certificate }) => certificate), ...made];
  for (let grew = true; grew; ) {
    grew = false;
    for (const certificate of made) {
      const until = Math.min(
        ends.get(authorityOf(certificate)) ?? 0,
        certificate.notAfter.getTime(),
      );
      for (const issuer of issuers) {
        const authority = authorityOf(issuer);
        if (until <= (ends.get(authority) ?? 0) || !couldHaveIssued(issuer, certificate)) continue;
        ends.set(authority, until);
        grew = true;
      }
    }
  }
  return roots.flatMap(({ id, certificate }) => {
    const end = Math.min(ends.get(authorityOf(certificate)) ?? 0, certificate.notAfter.getTime());
    return end > now.getTime() ? [{ rootId: id, until: new Date(end) }] : [];
  });
}

/** Identifies what `sameAuthority` compares: name and key. */
function authorityOf({ subject, key }: Certificate): string {
  return `${hex(subject)} ${hex(key.spki)}`;
}

/** Rows without some roots, and without every certificate by them or for them. */
export function withoutRoots(
  rows: readonly RootEntry[],
  gone: readonly Pick<RootEntry, "id" | "certificate">[],
): RootEntry[] {
  const ids = new Set(gone.map(({ id }) => id));
  const concerns = (certificate: Certificate) =>
    gone.some(
      (root) =>
        couldHaveIssued(root.certificate, certificate) ||
        sameAuthority(root.certificate, certificate),
    );
  return rows
    .filter(({ id }) => !ids.has(id))
    .map((root) => ({
      ...root,
      intermediates: root.intermediates.filter((certificate) => !concerns(certificate)),
    }));
}

/**
 * The record of dropped roots after some more were dropped.
 * @param before the state with them.
 */
export function recordDrops(
  { dropped, roots }: Pick<CaState, "roots" | "dropped">,
  gone: readonly RootEntry[],
  now: Date,
): DroppedRoot[] {
  const ids = new Set(gone.map(({ id }) => id));
  const news = gone.map(({ id, certificate }) => ({
    id,
    keyId: colonHex(keyIdOf(certificate.key.spki)),
    notAfter: certificate.notAfter,
    at: now,
    through: trustedThrough(roots, gone, now),
  }));
  const earlier = dropped
    .filter(({ id }) => !ids.has(id))
    .map((root) => ({ ...root, through: root.through.filter(({ rootId }) => !ids.has(rootId)) }));
  return [...news, ...earlier].slice(0, MAX_DROPPED);
}

/** Whether a root was dropped since the active one is active, or for it to become that. */
export function followsDrop({ roots, dropped }: Pick<CaState, "roots" | "dropped">): boolean {
  const since = roots.find(({ status }) => status === "active")?.since;
  return since !== undefined && dropped.some(({ at }) => at >= since);
}

/** The record of two states, without those that have expired. */
export function unitedDrops(
  one: readonly DroppedRoot[],
  other: readonly DroppedRoot[],
  now: Date,
): DroppedRoot[] {
  const united = new Map([...other, ...one].map((root) => [root.id, root]));
  return [...united.values()].filter(({ notAfter }) => notAfter > now).slice(0, MAX_DROPPED);
}

/**
 * @param why how the root would come back, as the beginning of a sentence.
 * @throws {ConflictError} `root_dropped` for a root that was dropped, or another one of its key
 */
export function requireNotDropped(
  { dropped }: Pick<CaState, "dropped">,
  root: Certificate,
  why: string,
): void {
  if (dropped.length === 0) return;
  const keyId = colonHex(keyIdOf(root.key.spki));
  const found = dropped.find((each) => each.id === root.id || each.keyId === keyId);
  if (found === undefined) return;
  throw new ConflictError(
    "root_dropped",
    `${why}: root ${found.id} was dropped, since others may know its key${found.id === root.id ? "" : `, and root ${root.id} has the same key`}; use a root with a new key`,
  );
}
