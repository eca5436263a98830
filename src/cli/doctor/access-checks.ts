/**
 * Checks of access control: whether it is on, and tokens that could do more than is meant.
 * @module
 */
import { ANONYMOUS } from "../../core/acl/authorizer.ts";
import { isLoopback } from "../../net/server-address.ts";
import { quoted } from "../files.ts";
import type { Facts } from "./look.ts";
import type { Diagnosis } from "./schema.ts";
import { type CheckId, type Finding, found, type Result, skipped, unchecked } from "./types.ts";

type Tokens = NonNullable<Diagnosis["ACL"]["Tokens"]>;

export function accessChecks(facts: Facts): Result[] {
  const { diagnosis } = facts;
  const rest = {
    "acl.anonymous": anonymous,
    "acl.management_token": managementToken,
    "acl.unlimited_tokens": unlimited,
  } as const;
  return [
    mode(facts),
    ...(Object.keys(rest) as (keyof typeof rest)[]).map((id) => {
      if ("error" in diagnosis) return unchecked(id, diagnosis.error);
      const { Mode, Tokens } = diagnosis.value.ACL;
      if (Mode === "off") return skipped(id, "access control is off (acl.mode)");
      return Tokens === null
        ? unchecked(id, "the server has not loaded its tokens")
        : rest[id](id, Tokens);
    }),
  ];
}

function mode({ diagnosis, options: { url, socketPath } }: Facts): Result {
  const id = "acl.mode";
  if ("error" in diagnosis) return unchecked(id, diagnosis.error);
  const { Mode } = diagnosis.value.ACL;
  const isHere = socketPath !== null || isLoopback(url);
  const findings: Finding[] = [];
  if (Mode === "off")
    findings.push({
      severity: isHere ? "note" : "critical",
      what: isHere
        ? "Access control is off: every program on this machine may do everything"
        : "Access control is off, and the server is called from another machine, through a proxy",
      why: "Who reaches the server can get a leaf of any service, and replace the CA",
      fix: "Set MESHCA_ACL=deny and restart; then make the first token with the secret of the data folder (docs/access-control.md)",
    });
  if (Mode === "allow")
    findings.push({
      severity: "warning",
      what: "Callers may do what no rule forbids (MESHCA_ACL=allow)",
      why: "A caller without a token can get a leaf of every service that no rule names",
      fix: "Give each workload a token or a login, then set MESHCA_ACL=deny and restart",
    });
  return found(id, Mode, findings);
}

function anonymous(id: CheckId, { AnonymousRights }: Tokens): Result {
  const findings: Finding[] =
    AnonymousRights.length === 0
      ? []
      : [
          {
            severity: "warning",
            what: `Callers without a token have rights: ${AnonymousRights.join(", ")}`,
            why: "Everyone who reaches the server has them",
            fix: `curl -X PUT -H "X-Consul-Token: $CONSUL_HTTP_TOKEN" SERVER/v1/acl/token/${ANONYMOUS.accessorId} -d '{"Policies": [], "Roles": [], "ServiceIdentities": [], "NodeIdentities": [], "TemplatedPolicies": []}'`,
          },
        ];
  return found(id, "none", findings);
}

function managementToken(id: CheckId, { InitialManagement }: Tokens): Result {
  const findings: Finding[] =
    InitialManagement === null
      ? []
      : [
          {
            severity: "warning",
            what: `The initial management token of the settings is valid (accessor ${InitialManagement})`,
            why: "It may do everything, never expires, and is in the settings of every replica",
            fix: `Make a token for each operator; remove MESHCA_INITIAL_MANAGEMENT_TOKEN from each replica and restart; then meshca acl token delete -accessor-id ${quoted(InitialManagement)}`,
          },
        ];
  return found(id, "none in the settings", findings);
}

function unlimited(id: CheckId, { Management, Unlimited, Total }: Tokens): Result {
  const findings: Finding[] = [];
  if (Management.length > 0)
    findings.push({
      severity: "note",
      what: `Tokens with all rights never expire: ${Management.join(", ")}`,
      why: "A copy of one that is lost can be used for ever",
      fix: "Make others with -expires-ttl, and delete these: meshca acl token delete -accessor-id ACCESSOR",
    });
  if (Unlimited > 0)
    findings.push({
      severity: "note",
      what: `${Unlimited} further ${Unlimited === 1 ? "token never expires" : "tokens never expire"}`,
      why: "A copy of one that is lost can be used for ever",
      fix: "Let workloads log in (an auth method), whose tokens expire; meshca acl token list shows all",
    });
  return found(id, `${Total} tokens, all of which expire`, findings);
}
