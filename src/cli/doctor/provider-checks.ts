/**
 * Checks of the CA's provider: whether Vault answers, its token, permissions and limits.
 * @module
 */
import { quoted } from "../files.ts";
import { spanText } from "../table.ts";
import { linesOf } from "./ca-checks.ts";
import type { Facts } from "./look.ts";
import type { Diagnosis } from "./schema.ts";
import { type CheckId, type Finding, found, ok, type Result, skipped, unchecked } from "./types.ts";

type Examined = NonNullable<Diagnosis["Provider"]["Value"]>;

/** A token that ends sooner is urgent: an operator has to make another one. */
const URGENT_MS = 7 * 86_400_000;
const BUILT_IN = "the built-in provider needs no other service";

export function providerChecks(facts: Facts): Result[] {
  const { diagnosis, now } = facts;
  const rest = {
    "provider.token": token,
    "provider.permissions": permissions,
    "provider.lifetimes": lifetimes,
  } as const;
  return [
    available(facts),
    ...(Object.keys(rest) as (keyof typeof rest)[]).map((id) => {
      if ("error" in diagnosis) return unchecked(id, diagnosis.error);
      const { Value, Error: reason } = diagnosis.value.Provider;
      if (reason !== null) return unchecked(id, reason);
      return Value === null ? skipped(id, BUILT_IN) : rest[id](id, Value, now);
    }),
  ];
}

function available(facts: Facts): Result {
  const id = "provider.available";
  const { diagnosis } = facts;
  const lines = linesOf(facts, "provider");
  if (typeof lines === "string") return unchecked(id, lines);
  const failed = "value" in diagnosis ? diagnosis.value.Provider.Error : null;
  const findings: Finding[] = lines.map((text) => ({
    severity: /unavailable|cannot be renewed|was deleted/.test(text) ? "critical" : "warning",
    what: `The provider: ${text}`,
    why: "Issuers are not renewed and roots not rotated; with LeafSigning vault no leaf is signed",
    fix: fixOf(text),
  }));
  if (failed !== null && lines.length === 0)
    findings.push({
      severity: "critical",
      what: `The provider cannot be asked: ${failed}`,
      why: "Issuers are not renewed and roots not rotated; with LeafSigning vault no leaf is signed",
      fix: fixOf(failed),
    });
  if (findings.length > 0) return found(id, findings[0]?.what ?? "", findings);
  if ("error" in diagnosis) return unchecked(id, diagnosis.error);
  return diagnosis.value.Provider.Value === null ? skipped(id, BUILT_IN) : ok(id, "it answers");
}

/** The way out that is known of a text about Vault; a Vault that is gone has one of its own. */
function fixOf(text: string): string {
  if (/sealed/i.test(text)) return "vault operator unseal";
  if (/token|permission denied|403/i.test(text))
    return "vault token create, with the policy of docs/vault.md; then meshca connect ca set-config with it";
  return "vault status; if this Vault is lost, meshca recover moves the CA to the built-in provider";
}

function token(id: CheckId, { Token }: Examined, now: Date): Result {
  const { Renewable, ExpirationTime, Failure, Replaced } = Token;
  const fix =
    "vault token create -period=24h, with the policy of docs/vault.md; then meshca connect ca set-config with it";
  const why =
    "Without a valid token no issuer is renewed, and with LeafSigning vault no leaf is signed";
  const left = ExpirationTime === null ? null : new Date(ExpirationTime).getTime() - now.getTime();
  const life =
    left === null ? "it does not expire" : left > 0 ? `${spanText(left)} left` : "expired";
  if (Failure !== null)
    return found(id, Failure, [
      {
        severity: "critical",
        what: `Vault's token cannot be renewed: ${Failure}; ${life}`,
        why,
        fix,
      },
    ]);
  if (left === null || Renewable || Replaced) return ok(id, life);
  return found(id, life, [
    {
      severity: left < URGENT_MS ? "critical" : "warning",
      what: `Vault's token cannot be renewed: ${life}`,
      ...{ why, fix },
    },
  ]);
}

function permissions(id: CheckId, { MissingPermissions }: Examined): Result {
  if (MissingPermissions === null)
    return unchecked(id, 'Vault\'s token may not ask: grant it update on "sys/capabilities-self"');
  return found(
    id,
    "it has all",
    MissingPermissions.map(({ Namespace, Path, Capabilities, Purpose, Rotation }) => ({
      severity: Rotation ? "warning" : "critical",
      what: `Vault's token lacks ${Capabilities.join(", ")} on ${JSON.stringify(Path)}${Namespace === "" ? "" : ` in namespace ${JSON.stringify(Namespace)}`}`,
      why: Rotation ? `A rotation fails: it is needed to ${Purpose}` : `It is needed to ${Purpose}`,
      fix: `Add to its policy, by vault policy write: path ${JSON.stringify(Path)} { capabilities = [${Capabilities.map((one) => JSON.stringify(one)).join(", ")}] }`,
    })),
  );
}

function lifetimes(id: CheckId, { LowLimits, UnreadMounts }: Examined): Result {
  const findings: Finding[] = LowLimits.map(({ Path, Field, LimitSeconds, NeededSeconds }) => ({
    severity: "warning",
    what: `The mount ${JSON.stringify(Path)} of Vault allows ${spanText(LimitSeconds * 1000)}, and ${Field} is ${spanText(NeededSeconds * 1000)}`,
    why: "Vault cuts what it signs: certificates live shorter than configured",
    fix: `vault secrets tune -max-lease-ttl=${NeededSeconds}s ${quoted(Path)}`,
  }));
  if (findings.length === 0 && UnreadMounts.length > 0)
    return unchecked(
      id,
      `Vault's token may not read the limits of ${UnreadMounts.join(", ")}: grant it read on "sys/mounts/<mount>"`,
    );
  return found(id, "as high as the configuration", findings);
}
