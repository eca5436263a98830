/**
 * Gathers what `GET /v1/status/diagnosis` answers. Nothing is kept and nothing is changed: each call
 * looks.
 * @module
 */
import { isLoopback } from "../config/addresses.ts";
import type { Settings } from "../config/settings.ts";
import { ANONYMOUS } from "../core/acl/authorizer.ts";
import type { Acl } from "../core/acl/ports.ts";
import type { Grants, Token } from "../core/acl/types.ts";
import type { CertificateAuthority } from "../core/ca/ca.ts";
import { reasonOf } from "../core/errors.ts";
import type { BackupLog } from "../core/ports/backups.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { PrimaryDatacenter } from "../core/ports/primary.ts";
import type { ReadStoreFacts } from "../core/ports/store-facts.ts";
import type { AccessFacts, Diagnosis, Found } from "../http/routes/diagnosis.ts";
import { VERSION } from "../version.ts";
import type { Platform } from "./platform.ts";

interface DiagnosisParts {
  readonly settings: Settings;
  readonly ca: Pick<CertificateAuthority, "snapshot">;
  /** Null in a primary datacenter. */
  readonly primary: PrimaryDatacenter | null;
  readonly control: Acl | null;
  readonly backups: BackupLog;
  readonly facts: ReadStoreFacts;
  readonly clock: Clock;
  readonly fileFacts: Platform["fileFacts"];
}

/** How many accessors are named at most. */
const MAX_NAMED = 20;
/** The id of Consul's builtin policy with all rights. */
const GLOBAL_MANAGEMENT = "00000000-0000-0000-0000-000000000001";

export async function diagnose(parts: DiagnosisParts): Promise<Diagnosis> {
  const { settings, ca, primary, control, backups, facts, clock, fileFacts } = parts;
  const { snapshot } = ca;
  const external = snapshot?.provider?.external ?? null;
  const [store, lastBackup, replication, provider, access] = await Promise.all([
    found(facts),
    found(() => backups.last()),
    found(async () => (primary === null ? null : { isAllowed: await primary.maySign() })),
    found(async () => (external === null ? null : external.examine())),
    accessFacts(settings, control),
  ]);
  return {
    version: VERSION,
    now: clock.now(),
    isLoopback: isLoopback(settings.listen.host),
    ...{ store, lastBackup, replication, provider, access },
    state: snapshot === null ? null : { index: snapshot.state.index, rootId: snapshot.active.id },
    files: fileFacts?.() ?? null,
  };
}

async function found<T>(look: () => Promise<T>): Promise<Found<T>> {
  try {
    return { value: await look() };
  } catch (error) {
    return { error: reasonOf(error) };
  }
}

async function accessFacts(
  { acl: mode, managementToken }: Settings,
  control: Acl | null,
): Promise<AccessFacts> {
  if (control === null || !control.state.loaded) return { mode, tokens: null };
  const { admin } = control;
  const initial = await found(async () =>
    managementToken === null ? null : (await control.authorize(managementToken)).accessorId,
  );
  const initialManagement = "value" in initial ? initial.value : null;
  const tokens = admin.tokens.list().map(({ value }) => value);
  const endless = tokens.filter(
    ({ expirationTime, accessorId }) =>
      expirationTime === null &&
      accessorId !== ANONYMOUS.accessorId &&
      accessorId !== initialManagement,
  );
  const isManagement = ({ policies, roles = [] }: Token) =>
    [...policies, ...roles.flatMap((id) => admin.roles.get(id)?.value.policies ?? [])].includes(
      GLOBAL_MANAGEMENT,
    );
  const anonymous = tokens.find(({ accessorId }) => accessorId === ANONYMOUS.accessorId);
  return {
    mode,
    tokens: {
      anonymous: anonymous === undefined ? [] : grantsText(anonymous, control),
      initialManagement,
      management: endless
        .filter(isManagement)
        .map(({ accessorId }) => accessorId)
        .slice(0, MAX_NAMED),
      unlimited: endless.filter((token) => !isManagement(token)).length,
      total: tokens.length,
    },
  };
}

/** What a token grants by name: `policy NAME`, `role NAME`, `service NAME`. */
function grantsText(grants: Grants & Pick<Token, "roles">, { admin }: Acl): string[] {
  const {
    policies,
    roles = [],
    serviceIdentities,
    nodeIdentities,
    templatedPolicies = [],
  } = grants;
  return [
    ...policies
      .flatMap((id) => admin.policies.get(id)?.value.name ?? [])
      .map((name) => `policy ${name}`),
    ...roles.flatMap((id) => admin.roles.get(id)?.value.name ?? []).map((name) => `role ${name}`),
    ...serviceIdentities.map(({ serviceName }) => `service ${serviceName}`),
    ...nodeIdentities.map(({ nodeName }) => `node ${nodeName}`),
    ...templatedPolicies.map(({ templateName }) => `templated policy ${templateName}`),
  ].slice(0, MAX_NAMED);
}
