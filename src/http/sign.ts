/**
 * PUT and POST /v1/connect/ca/sign: a request in, a leaf with its chain out.
 * @module
 */
import * as v from "valibot";
import { RequestError } from "../core/errors.ts";
import { MAX_CSR_LENGTH } from "../core/x509/csr.ts";
import { plainBody } from "./answers.ts";
import type { AppOptions, Handler, Route } from "./app.ts";
import { requireDatacenter } from "./datacenter.ts";
import { decodeFailed, readJson, writeJson } from "./json.ts";
import { type BodyReader, bodyForm } from "./request.ts";
import { leafJson } from "./wire.ts";

/** The longest request in JSON: each of its line ends is two characters there. */
const MAX_BODY = 2 * MAX_CSR_LENGTH;
const PEM_CHAIN = "application/pem-certificate-chain";

const SignBody = v.strictObject({ CSR: v.string() });

export function signRoutes({ manager, datacenter }: AppOptions, bodies: BodyReader): Route[] {
  const sign: Handler = async (call) => {
    const query = call.query();
    requireDatacenter(query.params, datacenter);
    const form = bodyForm(call.header("content-type"));
    const sent = await bodies.read(call.request, form === "json" ? MAX_BODY : MAX_CSR_LENGTH);
    const leaf = await manager.sign(form === "json" ? csrOf(sent) : requireText(sent));
    const bare = call.header("accept")?.includes(PEM_CHAIN) === true;
    return {
      headers: { "X-Consul-Index": String(leaf.index), "Cache-Control": "no-store" },
      body: bare ? plainBody(PEM_CHAIN, leaf.certificatePem) : plainBody("application/json", writeJson(leafJson(leaf), query.pretty)),
    };
  };
  return [{ path: "/v1/connect/ca/sign", kind: "consul", methods: { PUT: sign, POST: sign } }];
}

/** @throws {RequestError} `request_malformed` */
function csrOf(text: string): string {
  const result = v.safeParse(SignBody, readJson(text));
  if (result.success) return result.output.CSR;
  const [issue] = result.issues;
  if (issue.type === "strict_object") throw decodeFailed(`${issue.message.replace(/"/g, "'")}; the body must be {"CSR": "<PEM>"}`);
  throw decodeFailed(`CSR must be a string; the body must be {"CSR": "<PEM>"}`);
}

/** A body that begins like JSON was sent with another media type. @throws {RequestError} `csr_malformed` */
function requireText(text: string): string {
  if (text.trimStart().startsWith("{"))
    throw new RequestError("csr_malformed", "Cannot read CSR: the body is JSON but its Content-Type is not application/json");
  return text;
}
