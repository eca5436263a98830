/**
 * Takes the steps of a change in Vault, each with its compensating action.
 * @module
 */

import { InvariantError } from "../../src/core/errors.ts";
import { caCommonName, signingUri } from "../../src/core/x509/authority.ts";
import { type Certificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import type { Mount, VaultConfig } from "./config.ts";
import type { ChangeContext } from "./context.ts";
import { failedBy, VaultError } from "./errors.ts";
import {
  certifyIntermediate,
  generateKey,
  generateLocalKey,
  importIntermediate,
  type KeyInVault,
  type LocalKey,
  purposeOf,
  TOLERANCE_MS,
} from "./intermediate.ts";
import {
  deleteIssuer,
  deleteMount,
  descriptionOf,
  findMount,
  newName,
  type Purpose,
} from "./mounts.ts";
import { requirePermissionsOf } from "./permissions.ts";
import type { PkiApi } from "./pki-api.ts";
import type { ChangeStep } from "./plan.ts";
import { ensureRole, roleFields } from "./role.ts";
import type { VaultRoot } from "./root.ts";
import type { IntermediateState } from "./vault-state.ts";

/** What the steps so far have given. */
export interface Progress {
  readonly root?: VaultRoot;
  /** Of the intermediate's mount, if a step mounted it. */
  readonly mounted?: { readonly accessor: string | null; readonly isOurs: boolean };
  readonly keyInVault?: KeyInVault;
  readonly localKey?: LocalKey;
  readonly certificate?: Certificate;
  readonly intermediate?: IntermediateState;
  /** The sealed key of a local intermediate. */
  readonly key?: string;
}

/** @throws {ConfigError} @throws {VaultError} @throws {SealError} */
export async function applySteps(
  steps: readonly ChangeStep[],
  context: ChangeContext,
  config: VaultConfig,
  before: Progress = {},
): Promise<Progress> {
  let progress = before;
  for (const step of steps)
    progress = { ...progress, ...(await applyStep(step, context, config, progress)) };
  return progress;
}

async function applyStep(
  step: ChangeStep,
  context: ChangeContext,
  config: VaultConfig,
  progress: Progress,
): Promise<Progress> {
  switch (step.kind) {
    case "use-root":
      return { root: step.root };
    case "read-mount":
      await requirePermissionsOf(context.api, [step]);
      throw new VaultError(
        "denied",
        `Vault: GET sys/mounts/${step.mount.path}: permission denied, though the token has it by now; try again`,
      );
    case "mount-pki":
      return mountPki(context, config, step.mount, step.purpose);
    case "generate-root":
      return { root: await generateRoot(context, config, step.mount, step.beside) };
    case "keep-intermediate":
      return {
        intermediate: step.intermediate,
        ...(step.key === null ? {} : { key: step.key }),
      };
    case "generate-key":
      return { keyInVault: await generateKey(context, config, step.mount) };
    case "generate-local-key":
      return { localKey: await generateLocalKey(context, config) };
    case "certify-intermediate": {
      const key = progress.keyInVault ?? progress.localKey;
      return {
        certificate: await certifyIntermediate(context, config, need(progress.root), need(key)),
      };
    }
    case "import-intermediate": {
      const { accessor, isOurs } = progress.mounted ?? step;
      const [key, certificate] = [need(progress.keyInVault), need(progress.certificate)];
      const issuerId = await importIntermediate(context, step.mount, key, certificate);
      const { keyId } = key;
      return {
        intermediate: { mount: step.mount, accessor, isOurs, certificate, issuerId, keyId },
      };
    }
    case "seal-local-key": {
      const { privateKey, info } = need(progress.localKey);
      const purpose = purposeOf(info, context.clusterId);
      return {
        key: await context.sealer.sealKey(privateKey, purpose),
        intermediate: {
          mount: config.intermediate,
          accessor: null,
          isOurs: false,
          certificate: need(progress.certificate),
          issuerId: null,
          keyId: null,
        },
      };
    }
    case "ensure-role": {
      const { api, onRollback } = context;
      await ensureRole(api, step.mount, roleFields(context, config.leafTtlMs), onRollback);
      return {};
    }
  }
}

/** What an earlier step has given. @throws {InvariantError} */
export function need<T>(value: T | undefined): T {
  if (value === undefined) throw new InvariantError("A step of a change in Vault is missing");
  return value;
}

async function mountPki(
  context: ChangeContext,
  { rootTtlMs, intermediateTtlMs }: VaultConfig,
  mount: Mount,
  purpose: Purpose,
): Promise<Progress> {
  const { api, onRollback } = context;
  const description = descriptionOf(context, purpose);
  onRollback((later) => deleteMount(later, mount, [description], null));
  const isRoot = purpose === "root";
  await api.enablePki(mount, {
    description,
    maxLeaseTtlMs: isRoot ? rootTtlMs : intermediateTtlMs,
    defaultLeaseTtlMs: isRoot ? rootTtlMs : null,
  });
  if (isRoot) return {};
  const use = { owner: context, datacenter: "primary", recorded: true } as const;
  const found = await findMount(api, mount, purpose, use);
  return {
    mounted:
      found.kind === "pki"
        ? { accessor: found.accessor, isOurs: true }
        : { accessor: null, isOurs: false },
  };
}

async function generateRoot(
  context: ChangeContext,
  { keySpec, rootTtlMs }: VaultConfig,
  mount: Mount,
  beside: boolean,
): Promise<VaultRoot> {
  const { api, clusterId, trustDomain, random, now, onRollback, warn } = context;
  const name = newName(context, "root", random);
  onRollback((later) => deleteNamed(later, mount, name));
  const request = {
    commonName: caCommonName("pri", "vault", clusterId, random),
    uri: signingUri({ trustDomain }),
    keySpec,
    keyName: name,
    issuerName: name,
    ttlMs: rootTtlMs,
  };
  const made = await api.generateRoot(mount, request, beside);
  const certificate = readCertificatePem(made.certificate);
  if (certificate.notAfter.getTime() < now.getTime() + rootTtlMs - TOLERANCE_MS)
    warn(
      `Vault cut the life of the root at ${JSON.stringify(mount.path)}, which expires at ${certificate.notAfter.toISOString()}: RootCertTTL is beyond max_lease_ttl of the mount`,
    );
  return { certificate, state: { mount, issuerId: made.issuerId, isOurs: true }, path: [] };
}

/** Deletes an issuer and its key by their name. Succeeds if they are gone with their mount. */
async function deleteNamed(api: PkiApi, mount: Mount, name: string): Promise<void> {
  try {
    await deleteIssuer(api, mount, name, name);
  } catch (error) {
    // Vault denies to a token without a rule what was in a mount that is gone.
    if (!failedBy(error, "denied") || (await api.readMount(mount)) !== null) throw error;
  }
}
