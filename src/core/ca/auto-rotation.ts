/**
 * When the root is rotated by itself: RootAutoRotate of the configuration, a share of the root's
 * life. Only a root that this CA made is; one that an operator supplied, or that others made in
 * Vault, is only announced.
 * @module
 */
import type { ProviderTypes } from "../ports/provider.ts";
import { activeRecord, activeRoot, type CaState } from "../state.ts";
import { parseOf, typeOf } from "./snapshot.ts";

export interface AutoRotation {
  /** When the share of the root's life is over. */
  readonly at: Date;
  /** Why this CA cannot rotate the root itself, as a sentence; null if it does. */
  readonly obstacle: string | null;
}

/** The next rotation of the active root by itself; null if none is configured. */
export function autoRotationOf(state: CaState, types: ProviderTypes): AutoRotation | null {
  // A secondary datacenter follows the primary's root.
  if (state.primary !== null) return null;
  const type = typeOf(types, state.config.provider);
  const config = parseOf(type, state);
  const share = config.rootAutoRotate;
  if (share === 0) return null;
  const { notBefore, notAfter } = activeRoot(state).certificate;
  const lifeMs = notAfter.getTime() - notBefore.getTime();
  return {
    at: new Date(notBefore.getTime() + share * lifeMs),
    obstacle: type.rotateObstacle(config, activeRecord(state).state),
  };
}

/** When the root is rotated by itself; null if it is not. */
export function autoRotationAt(state: CaState, types: ProviderTypes): Date | null {
  const next = autoRotationOf(state, types);
  return next?.obstacle === null ? next.at : null;
}
