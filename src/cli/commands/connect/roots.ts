/**
 * The command `meshca roots`: the trusted roots, with the life that each has left.
 * @module
 */
import * as v from "valibot";
import { pemOf } from "../../../core/x509/certificate.ts";
import type { Command } from "../../command.ts";
import type { Connection } from "../../connection/connection.ts";
import { lifeText, table } from "../../table.ts";
import type { Terminal } from "../../terminal.ts";
import { readSentPem } from "./sent-pem.ts";

const PATH = "/v1/connect/ca/roots";

const Root = v.looseObject({
  ID: v.string(),
  Name: v.string(),
  SigningKeyID: v.fallback(v.string(), ""),
  NotBefore: v.pipe(v.string(), v.isoTimestamp()),
  NotAfter: v.pipe(v.string(), v.isoTimestamp()),
  RootCert: v.string(),
  IntermediateCerts: v.fallback(v.nullable(v.array(v.string())), null),
  Active: v.boolean(),
  PrivateKeyType: v.fallback(v.string(), ""),
  PrivateKeyBits: v.fallback(v.number(), 0),
  Abandoned: v.optional(v.boolean(), false),
  Prepared: v.optional(v.boolean(), false),
});
const Listing = v.looseObject({
  ActiveRootID: v.string(),
  TrustDomain: v.string(),
  Roots: v.array(Root),
});

export type RootsValue = v.InferOutput<typeof Listing>;
export type RootValue = v.InferOutput<typeof Root>;

/** @throws {Failure} */
export function fetchRoots(connection: Connection): Promise<RootsValue> {
  return connection.json(Listing, { method: "GET", path: PATH });
}

/** What a root is for now. */
export function rootState(root: RootValue, now: Date): string {
  if (new Date(root.NotAfter) <= now) return "expired";
  if (new Date(root.NotBefore) > now) return "not valid yet";
  if (root.Abandoned) return "abandoned";
  if (root.Prepared) return "prepared";
  return root.Active ? "active" : "retired";
}

/**
 * Roots in PEM, each with its intermediates, as `?pem=true` answers them.
 * @throws {Failure} if the server sends something else
 */
export function rootsPem({ Roots }: RootsValue, connection: Connection): string {
  return Roots.flatMap(({ RootCert, IntermediateCerts }) => [
    RootCert,
    ...(IntermediateCerts ?? []),
  ])
    .flatMap((pem) => readSentPem(pem, connection, `GET ${PATH}`))
    .map(pemOf)
    .join("");
}

export function rootsText(roots: RootsValue, now: Date, terminal: Terminal): string {
  const rows = roots.Roots.map((root) => [
    root.ID,
    rootState(root, now),
    lifeText(new Date(root.NotAfter), now),
    root.NotAfter.slice(0, 10),
    `${root.PrivateKeyType} ${root.PrivateKeyBits}`.trim(),
  ]);
  return `Trust domain ${roots.TrustDomain}\n\n${table(["ID", "STATE", "LIFE", "EXPIRES", "KEY"], rows, terminal)}`;
}

export const roots: Command = {
  name: "roots",
  summary: "show the trusted roots",
  flags: [{ ...{ name: "pem", value: null }, help: "print certificates in PEM, for a CA file" }],
  example: "meshca roots --pem > roots.pem",
  ...{ connects: true, json: true },
  async run(call) {
    const connection = call.connect();
    const found = await fetchRoots(connection);
    if (call.flags.on("pem")) call.terminal.write(rootsPem(found, connection));
    else call.print(found, (value) => rootsText(value, new Date(), call.terminal));
    return 0;
  },
};
