/**
 * PUT /v1/connect/ca/promote: makes this datacenter the primary one of its mesh. Not in Consul.
 * @module
 */
import type { CertificateAuthority } from "../../core/ca/ca.ts";
import type { PromotionRoot } from "../../core/ca/plan-promotion.ts";
import type { StateCodec } from "../../core/ports/store.ts";
import { decodePromotion, type PromotionBody } from "../configuration-body.ts";
import type { BodyReader } from "../request-body.ts";
import { json } from "../responses.ts";
import { caRoute, endpoint, type Route } from "../route.ts";
import { readBackup } from "./backup.ts";
import { abandonedHeader } from "./configuration.ts";

interface PromoteRouteOptions {
  readonly ca: Pick<CertificateAuthority, "promote">;
  readonly codec: Pick<StateCodec, "decodeAny">;
  readonly bodies: BodyReader;
  /** Of a backup, in octets. */
  readonly maxBody: number;
}

export function promoteRoutes({ ca, codec, bodies, maxBody }: PromoteRouteOptions): Route[] {
  return [
    caRoute("/v1/connect/ca/promote", {
      PUT: endpoint("operator:write", async (call) => {
        // As text in JSON a backup is longer by its quotation marks.
        const body = await bodies.optionalJson(call.request, 2 * maxBody);
        const { root: sent, ...request } = decodePromotion(body);
        const root = await rootOf(sent, codec);
        const { state, active } = await ca.promote({ ...request, root }, call.caller);
        const { prepared } = state.provider;
        return json(
          call,
          {
            ActiveRootID: active.id,
            ModifyIndex: state.config.modifyIndex,
            Promotions: state.promotions,
            ...(prepared === null
              ? {}
              : {
                  PreparedRootID: prepared.rootId,
                  ActivateAt: prepared.activateAt.toISOString(),
                }),
          },
          { headers: abandonedHeader(state) },
        );
      }),
    }),
  ];
}

async function rootOf(
  root: PromotionBody["root"],
  codec: Pick<StateCodec, "decodeAny">,
): Promise<PromotionRoot> {
  if (root.kind !== "backup") return root;
  return { kind: "backup", backup: await readBackup(root.text, (text) => codec.decodeAny(text)) };
}
