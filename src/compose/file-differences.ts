/**
 * How the CA configuration of a configuration file differs from the stored one.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { redact } from "../core/ca/config-fields.ts";
import type { CaState } from "../core/state.ts";

/**
 * The names of the fields in which a configuration file differs from the stored configuration. A
 * secret is stored in another form than it was sent, so that only its presence is compared.
 */
export function fileDifferences(
  file: NonNullable<Settings["bootstrap"]>,
  { clusterId, trustDomain, config }: CaState,
  secretFields: readonly string[],
): string[] {
  const stored = new Map(
    Object.entries(config.config ?? {}).map(([key, value]) => [key.toLowerCase(), value]),
  );
  const differs = ([key, value]: [string, unknown]) =>
    JSON.stringify(stored.get(key.toLowerCase())) !== JSON.stringify(value);
  return [
    ...Object.entries(redact(file.config, secretFields) ?? {})
      .filter(differs)
      .map(([key]) => key),
    ...(file.provider === config.provider ? [] : ["ca_provider"]),
    ...(file.clusterId === null || file.clusterId === clusterId ? [] : ["cluster_id"]),
    ...(file.trustDomain === null || file.trustDomain === trustDomain ? [] : ["trust_domain"]),
  ];
}
