/**
 * GET /v1/status/datacenter: what this replica knows of other datacenters: of a secondary one what it
 * follows and the life of its intermediate, of a primary one the intermediates that it signed.
 * @module
 */
import type { Json } from "../../consul/go-json.ts";
import type { Acl } from "../../core/acl/ports.ts";
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import { renewalDelay } from "../../core/ca/expiry.ts";
import type { PrimaryStatus } from "../../core/ca/follower.ts";
import { unexpiredIntermediates } from "../../core/ca/intermediates.ts";
import type { Snapshot } from "../../core/ca/snapshot.ts";
import { NotReadyError } from "../../core/errors.ts";
import type { Clock } from "../../core/ports/clock.ts";
import type { ServerOptions } from "../options.ts";
import { json } from "../responses.ts";
import { type Call, consulRoute, endpoint, type Route } from "../route.ts";
import { maySeeDetails } from "./status.ts";

interface DatacenterStatusOptions {
  readonly ca: Pick<CertificateAuthority, "snapshot" | "status">;
  readonly control: Acl | null;
  readonly server: Pick<ServerOptions, "datacenter" | "behindProxy" | "loopbackOnly">;
  readonly others: { readonly names: readonly string[] };
  readonly clock: Clock;
}

export function datacenterStatusRoutes(options: DatacenterStatusOptions): Route[] {
  return [
    consulRoute("/v1/status/datacenter", {
      // As the lines of /readyz: also before there is a state with which a token can be checked.
      GET: endpoint("optional", (call) => {
        requireDetails(call, options);
        return json(call, statusJson(options));
      }),
    }),
  ];
}

/** @throws {DeniedError} @throws {NotReadyError} if the token cannot be checked */
function requireDetails(call: Call, options: DatacenterStatusOptions): void {
  if (maySeeDetails(call, options)) return;
  call.authorized?.require("operator", "read");
  throw new NotReadyError(
    "ca_uninitialized",
    "Cannot check the token: access control is not loaded yet; /readyz, asked on the server's machine, and its log have the reason",
    { retryAfterMs: 1000 },
  );
}

function statusJson({ ca, server, others, clock }: DatacenterStatusOptions): Json {
  const { snapshot } = ca;
  const { primary, otherPrimary, preparedRoot } = ca.status;
  const now = clock.now();
  const { count, firstNotAfter } = unexpiredIntermediates(snapshot?.state ?? null, now);
  return {
    Datacenter: server.datacenter,
    Others: others.names.toSorted(),
    Primary: primary === null ? null : primaryJson(primary),
    Promotions: snapshot?.state.promotions ?? null,
    OtherPrimary:
      otherPrimary === null
        ? null
        : {
            Datacenter: otherPrimary.datacenter,
            Promotions: otherPrimary.promotions,
            By: otherPrimary.by,
          },
    PreparedRoot:
      preparedRoot === null
        ? null
        : { ID: preparedRoot.rootId, ActivateAt: preparedRoot.activateAt.toISOString() },
    Intermediate: intermediateJson(snapshot, now),
    Intermediates: { Unexpired: count, FirstNotAfter: firstNotAfter?.toISOString() ?? null },
  };
}

function primaryJson(primary: PrimaryStatus): Json {
  const { datacenter, isAsked, lastContact, index, followedIndex, clockOffsetMs, fault } = primary;
  return {
    Datacenter: datacenter,
    Asked: isAsked,
    LastContact: lastContact?.toISOString() ?? null,
    Index: index,
    FollowedIndex: followedIndex,
    ClockOffsetMs: clockOffsetMs === null ? null : Math.round(clockOffsetMs),
    Fault:
      fault === null
        ? null
        : {
            Step: fault.step,
            Code: fault.code,
            Reason: fault.reason,
            Since: fault.since.toISOString(),
          },
  };
}

/** The intermediate of a secondary datacenter; null in a primary one. */
function intermediateJson(snapshot: Snapshot | null, now: Date): Json {
  if (snapshot === null || snapshot.state.primary === null || snapshot.provider === null)
    return null;
  const { issuer } = snapshot.provider;
  return {
    ID: issuer.id,
    NotBefore: issuer.notBefore.toISOString(),
    NotAfter: issuer.notAfter.toISOString(),
    Delay: renewalDelay(issuer, snapshot.config.leafTtlMs, now),
  };
}
