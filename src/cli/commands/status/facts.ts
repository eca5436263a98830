/**
 * The state of a server, its CA and its datacenter, from the routes that it has for that: /readyz,
 * /v1/status, the roots and the configuration.
 * @module
 */
import * as v from "valibot";
import type { Connection } from "../../connection/connection.ts";
import { HttpFailure } from "../../connection/failures.ts";
import { type DatacenterStatus, fetchDatacenterStatus } from "../../datacenter-status.ts";
import { fetchLeafCounts, type LeafCounts } from "../../leaf-counts.ts";
import { Failure } from "../../output.ts";
import { fetchConfig } from "../connect/ca-config.ts";
import { fetchRoots, rootState } from "../connect/roots.ts";
import { problemsOf } from "./problems.ts";
import type { DatacenterFacts, RootFacts, Status, StatusFacts } from "./types.ts";

type PrimaryFault = NonNullable<NonNullable<DatacenterStatus["Primary"]>["Fault"]>;

/** @param has whether this program has a command, `conflict show` @throws {Failure} */
export async function readStatus(
  connection: Connection,
  now: Date,
  has: (command: string) => boolean,
): Promise<Status> {
  const facts = await readFacts(connection, now);
  return { ...facts, problems: problemsOf(facts, now, has) };
}

async function readFacts(connection: Connection, now: Date): Promise<StatusFacts> {
  const ready = await readReadiness(connection);
  const [listing, leader, replicas, config, datacenter, leaves] = await Promise.all([
    unlessRefused(fetchRoots(connection)),
    unlessRefused(connection.json(v.string(), { method: "GET", path: "/v1/status/leader" })),
    unlessRefused(
      connection.json(v.array(v.string()), { method: "GET", path: "/v1/status/peers" }),
    ),
    unlessRefused(fetchConfig(connection)),
    unlessRefused(fetchDatacenterStatus(connection)),
    unlessRefused(fetchLeafCounts(connection)),
  ]);
  const { LeafCertTTL } = (config?.Config ?? {}) as { readonly LeafCertTTL?: unknown };
  return {
    server: connection.name,
    ...ready,
    trustDomain: listing?.TrustDomain ?? null,
    roots: (listing?.Roots ?? [])
      .map((root) => ({
        id: root.ID,
        state: rootState(root, now),
        notBefore: root.NotBefore,
        notAfter: root.NotAfter,
        key: `${root.PrivateKeyType} ${root.PrivateKeyBits}`.trim(),
      }))
      .toSorted(byUse),
    leader: leader === null || leader === "" ? null : leader,
    replicas: replicas ?? [],
    provider:
      config === null
        ? null
        : {
            name: String(config.Provider),
            leafCertTtl: typeof LeafCertTTL === "string" ? LeafCertTTL : null,
          },
    datacenter: datacenter === null ? null : datacenterFacts(datacenter),
    leaves: leaves === null ? null : leafFacts(leaves),
  };
}

function leafFacts({ Counting, CompleteSince, LowerBound, Roots }: LeafCounts) {
  return {
    counting: Counting,
    completeSince: CompleteSince,
    lowerBound: LowerBound,
    roots: Roots.map(({ ID, Leaves, Until }) => ({ id: ID, leaves: Leaves, until: Until })),
  };
}

function datacenterFacts(status: DatacenterStatus): DatacenterFacts {
  const { Datacenter, Primary: primary, Intermediate: issuer, Intermediates } = status;
  return {
    name: Datacenter,
    primary:
      primary === null
        ? null
        : {
            datacenter: primary.Datacenter,
            asked: primary.Asked,
            lastContact: primary.LastContact,
            index: primary.Index,
            followedIndex: primary.FollowedIndex,
            lag:
              primary.Index === null || primary.FollowedIndex === null
                ? null
                : primary.Index - primary.FollowedIndex,
            fault: primary.Fault === null ? null : faultFacts(primary.Fault),
          },
    intermediate:
      issuer === null
        ? null
        : { notBefore: issuer.NotBefore, notAfter: issuer.NotAfter, delay: issuer.Delay },
    intermediates: {
      unexpired: Intermediates.Unexpired,
      firstNotAfter: Intermediates.FirstNotAfter,
    },
  };
}

const faultFacts = ({ Code, Reason, Since }: PrimaryFault) => ({
  code: Code,
  reason: Reason,
  since: Since,
});

/** The active root first, then the others, the newest first. */
function byUse(a: RootFacts, b: RootFacts): number {
  const active = Number(b.state === "active") - Number(a.state === "active");
  return active !== 0 ? active : Date.parse(b.notBefore) - Date.parse(a.notBefore);
}

/** What a server refuses while it starts, or to this token. */
async function unlessRefused<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    const cause = error instanceof Failure ? error.cause : null;
    if (error instanceof HttpFailure || cause instanceof HttpFailure) return null;
    throw error;
  }
}

/** @throws {Failure} if the server is not one of meshca */
export async function readReadiness(
  connection: Connection,
): Promise<Pick<StatusFacts, "ready" | "reason" | "details">> {
  const request = { method: "GET", path: "/readyz" } as const;
  const answer = await connection.send(request);
  const isText = /^text\/plain/.test(answer.header("content-type") ?? "");
  if ((answer.status !== 200 && answer.status !== 503) || !isText)
    throw answer.status === 403 || answer.status === 429
      ? connection.failure(answer, request)
      : connection.foreign(`it answered GET /readyz with ${answer.status}`);
  const [first = "", ...lines] = answer.body.trimEnd().split("\n");
  const details: Record<string, string[]> = {};
  for (const line of lines) {
    const [, name, value = ""] = /^([a-z_]+): (.*)$/.exec(line) ?? [];
    if (name !== undefined) details[name] = [...(details[name] ?? []), value];
  }
  const ready = answer.status === 200;
  return {
    ready,
    reason: ready ? null : first.replace(/^Cannot sign: /, ""),
    details: lines.length === 0 ? null : details,
  };
}
