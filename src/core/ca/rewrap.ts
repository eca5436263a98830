/**
 * Which key-encryption keys a state needs, and encrypting all of it under the current one, or for
 * another datacenter.
 * @module
 */
import { InvariantError, SealError } from "../errors.ts";
import type { ProviderTypes } from "../ports/provider.ts";
import type { Sealer } from "../ports/sealer.ts";
import {
  activeRecord,
  activeRoot,
  type CaState,
  type ProviderRecord,
  type ProviderState,
} from "../state.ts";
import { typeOf } from "./snapshot.ts";

function sealedStates({ provider: { active, retired, prepared } }: CaState): ProviderState[] {
  return [
    active,
    ...Object.values(retired).map(({ state }) => state),
    ...(prepared === null ? [] : [prepared.state]),
  ];
}

/** IDs of the key-encryption keys that encrypted something in a state. */
export function keksInUse(state: CaState, sealer: Pick<Sealer, "kekOf">): string[] {
  const ids = sealedStates(state).flatMap((sealed) =>
    Object.values(sealed).map((text) => sealer.kekOf(text)),
  );
  return [...new Set(ids)].filter((id) => id !== null);
}

/** The provider states, encrypted under the current key-encryption key. @throws {SealError} */
export function rewrapped(state: CaState, sealer: Sealer): Promise<CaState["provider"]> {
  return mapStates(state, ({ state: sealed }) =>
    mapTexts(sealed, async (text) => {
      const kek = sealer.kekOf(text);
      return kek === null || kek === sealer.keks[0] ? text : sealer.rewrap(text);
    }),
  );
}

/**
 * The provider states of another datacenter's state, encrypted for this one under the current
 * key-encryption key.
 * @param from decrypts them. @throws {SealError} @throws {ProviderError}
 */
export function rebound(
  state: CaState,
  providers: ProviderTypes,
  { from, to }: { readonly from: Sealer; readonly to: Sealer },
): Promise<CaState["provider"]> {
  return mapStates(state, async (record, rootId) => {
    const root = state.roots.find(({ id }) => id === rootId)?.certificate ?? null;
    const type = typeOf(providers, record.provider);
    const purposes = type.sealedPurposes(record.state, root, state.clusterId);
    return mapTexts(record.state, async (text, field) => {
      if (from.kekOf(text) === null) return text;
      const purpose = purposes[field];
      if (purpose === undefined)
        throw new InvariantError(`Provider ${type.name} names no purpose of ${field}`);
      const secret = await from.openSecret(text, purpose);
      try {
        return await to.sealSecret(secret, purpose);
      } finally {
        secret.fill(0);
      }
    });
  });
}

/** @param map gets each record with the ID of its root; of garbage, with another key. */
async function mapStates(
  state: CaState,
  map: (record: ProviderRecord, rootId: string) => Promise<ProviderState>,
): Promise<CaState["provider"]> {
  const { prepared } = state.provider;
  const [active, retired, next] = await Promise.all([
    map(activeRecord(state), activeRoot(state).id),
    Promise.all(
      Object.entries(state.provider.retired).map(
        async ([id, record]) => [id, { ...record, state: await map(record, id) }] as const,
      ),
    ),
    prepared === null ? null : map(prepared, prepared.rootId),
  ]);
  return {
    active,
    retired: Object.fromEntries(retired),
    prepared: prepared === null || next === null ? null : { ...prepared, state: next },
  };
}

async function mapTexts(
  sealed: ProviderState,
  map: (text: string, field: string) => Promise<string>,
): Promise<ProviderState> {
  const texts = Object.entries(sealed).map(
    async ([field, text]) => [field, await map(text, field)] as const,
  );
  return Object.fromEntries(await Promise.all(texts));
}

/** @throws {SealError} `kek_unknown` naming every key-encryption key that is in use and missing */
export function requireKeks(state: CaState | null, sealer: Sealer): void {
  const missing =
    state === null ? [] : keksInUse(state, sealer).filter((id) => !sealer.keks.includes(id));
  if (missing.length === 0) return;
  const [names, are] = [
    missing.map((id) => `key-encryption key ${JSON.stringify(id)}`).join(" and "),
    missing.length > 1 ? "are" : "is",
  ];
  throw new SealError(
    "kek_unknown",
    `Cannot start: keys of the CA are encrypted with ${names}, which ${are} not configured`,
  );
}
