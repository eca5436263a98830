/**
 * Which key-encryption keys a state needs, and encrypting all of it under the current one.
 * @module
 */
import { SealError } from "../errors.ts";
import type { Sealer } from "../ports/sealer.ts";
import type { CaState, ProviderState } from "../state.ts";

function sealedStates(state: CaState): ProviderState[] {
  return [
    state.provider.active,
    ...Object.values(state.provider.retired).map((record) => record.state),
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
export async function rewrapped(state: CaState, sealer: Sealer): Promise<CaState["provider"]> {
  const rewrapText = async (text: string) => {
    const kek = sealer.kekOf(text);
    return kek === null || kek === sealer.keks[0] ? text : sealer.rewrap(text);
  };
  const renew = async (sealed: ProviderState): Promise<ProviderState> =>
    Object.fromEntries(
      await Promise.all(
        Object.entries(sealed).map(async ([key, text]) => [key, await rewrapText(text)] as const),
      ),
    );
  const [active, ...retired] = await Promise.all([
    renew(state.provider.active),
    ...Object.values(state.provider.retired).map((record) => renew(record.state)),
  ]);
  const records = Object.entries(state.provider.retired).map(
    ([id, record], i) => [id, { ...record, state: retired[i] ?? {} }] as const,
  );
  return { active, retired: Object.fromEntries(records) };
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
