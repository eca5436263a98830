/**
 * GET and PUT /v1/connect/ca/deny, DELETE /v1/connect/ca/deny/:id: what no replica signs for.
 * @module
 */

import { type Json, readJson, writeJson } from "../../consul/go-json.ts";
import type { Administration } from "../../core/acl/admin.ts";
import { decodeDenial, denialJson } from "../acl-wire.ts";
import type { AppOptions, Call, Need, Route } from "../app.ts";
import { beforeChangeOf } from "../audited.ts";
import { type BodyReader, bodyForm } from "../request-body.ts";
import { body } from "../shared-body.ts";

const MAX_BODY = 8 * 1024;
const READ: Need = { resource: "operator", access: "read" };
const WRITE: Need = { resource: "operator", access: "write" };

export function denyRoutes({ access, audit }: AppOptions, bodies: BodyReader): Route[] {
  const disabled = {
    status: 401,
    body: body("text/plain; charset=utf-8", "ACL support disabled"),
  } as const;
  const answer = (call: Call, json: Json) => ({
    body: body("application/json", writeJson(json, call.query().pretty)),
  });
  const withAccess =
    (work: (call: Call, administration: Administration) => Promise<Json> | Json) =>
    async (call: Call) => {
      if (access === null) return disabled;
      return answer(call, await work(call, access.administrationFor(beforeChangeOf(call, audit))));
    };
  return [
    {
      path: "/v1/connect/ca/deny",
      kind: "consul",
      needs: { GET: READ, PUT: WRITE },
      methods: {
        GET: withAccess((_call, administration) => administration.denials().map(denialJson)),
        PUT: withAccess(async (call, administration) => {
          bodyForm(call.header("content-type"));
          const request = decodeDenial(readJson(await bodies.read(call.request, MAX_BODY)));
          return denialJson(await administration.deny(request));
        }),
      },
    },
    {
      path: "/v1/connect/ca/deny/:id",
      kind: "consul",
      needs: { DELETE: WRITE },
      methods: {
        DELETE: withAccess(async (call, administration) => {
          await administration.allow(call.param("id"));
          return true;
        }),
      },
    },
  ];
}
