/**
 * Envoy's Secret Discovery Service by REST: `POST /v3/discovery:secrets` (xDS REST and JSON polling
 * subscriptions).
 * @module
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import * as v from "valibot";
import type { Clock } from "../../core/ports/clock.ts";
import type { Log } from "../../core/ports/log.ts";
import { wrongMethod } from "../../http/responses.ts";
import type { AgentMetrics } from "../agent-metrics.ts";
import { LineLimit } from "../line-limit.ts";
import type { WorkloadSet } from "../workload.ts";
import { WorkloadState } from "../workload-state.ts";
import { jsonResponse, MAX_REQUEST_BYTES, typeRefusal } from "./messages.ts";
import { resolveSecrets, unknownNames, versionOf } from "./secrets.ts";

/** `/v3/discovery:secrets`; a colon would begin a parameter of the router. */
const ROUTE = "/v3/:method{discovery[:]secrets}";

/** The responses have private keys. */
const NO_STORE = { "Cache-Control": "no-store" };

interface SdsRestOptions {
  readonly set: WorkloadSet;
  readonly log: Log;
  readonly metrics: AgentMetrics;
  readonly clock: Pick<Clock, "now">;
}

/** A refusal: its status, a fixed word for the metric, a text for the caller. */
class Refusal extends Error {
  readonly status: ContentfulStatusCode;
  readonly reason: string;

  constructor(status: ContentfulStatusCode, reason: string, text: string) {
    super(text);
    this.status = status;
    this.reason = reason;
  }
}

const text = v.string("must be a string");
const object = "must be an object";

/**
 * DiscoveryRequest in the JSON form of proto3, after `inCamelCase`: null and absence mean the
 * default. Other fields are skipped.
 */
const REQUEST = v.object({
  versionInfo: v.nullish(text, ""),
  resourceNames: v.nullish(v.array(text, "must be an array of strings"), []),
  typeUrl: v.nullish(text, ""),
  errorDetail: v.nullish(v.object({ message: v.nullish(text, "") }, object), {}),
  node: v.nullish(v.object({ id: v.nullish(text, "") }, object), {}),
});

type JsonRequest = v.InferOutput<typeof REQUEST>;

/** Characters of a text of Envoy's that are logged. */
const MAX_LOGGED = 300;

const TOO_LARGE = new Refusal(
  413,
  "too-large",
  `The body of a discovery request may have ${MAX_REQUEST_BYTES} octets`,
);

/**
 * The route as an app to be mounted at the root of a listener, which decides who may call it: Envoy
 * sends no token.
 */
export function sdsRestRoute({ set, log, metrics, clock }: SdsRestOptions): Hono {
  const state = new WorkloadState(set, clock);
  const lines = new LineLimit(log, clock);
  const refuse = (context: Context, { message, status, reason }: Refusal) => {
    metrics.refused("sds-rest", reason);
    return context.text(message, status, NO_STORE);
  };
  const discover = async (context: Context): Promise<Response> => {
    const request = await readRequest(context.req.raw);
    const { secrets, version } = answer(state, request);
    if (request.errorDetail.message !== "") {
      metrics.refused("sds-rest", "nack");
      lines.warn("Envoy refused secrets and keeps its last ones", {
        node: request.node.id.slice(0, MAX_LOGGED),
        version: request.versionInfo.slice(0, MAX_LOGGED),
        error: request.errorDetail.message.slice(0, MAX_LOGGED),
      });
    }
    if (version === request.versionInfo) return context.body(null, 304, NO_STORE);
    return context.json(jsonResponse({ version, nonce: version, secrets }), 200, NO_STORE);
  };
  const limit = bodyLimit({
    maxSize: MAX_REQUEST_BYTES,
    onError: (context) => refuse(context, TOO_LARGE),
  });
  const app = new Hono().post(ROUTE, limit, async (context) => {
    try {
      return await discover(context);
    } catch (error) {
      if (error instanceof Refusal) return refuse(context, error);
      throw error;
    }
  });
  return app.all(ROUTE, (context) => wrongMethod(context.req.method, ["POST"], NO_STORE));
}

/** The secrets of a request. @throws {Refusal} */
function answer(state: WorkloadState, { resourceNames, typeUrl }: JsonRequest) {
  const wrongType = typeRefusal(typeUrl);
  if (wrongType !== null) throw new Refusal(400, "type-url", wrongType);
  const names = resourceNames.filter((name) => name !== "");
  const resolution = resolveSecrets(state, names.length === 0 ? null : names);
  if (resolution.unknown.length > 0)
    throw new Refusal(404, "unknown-name", unknownNames(resolution));
  const { secrets } = resolution;
  if (secrets.length === 0) throw new Refusal(503, "not-ready", state.reason);
  return { secrets, version: versionOf(secrets) };
}

async function readRequest(request: Request): Promise<JsonRequest> {
  // A form of a web page cannot have this type, so that its author does not get at the keys.
  const type = request.headers.get("Content-Type") ?? "";
  if (!/^application\/json *(;|$)/i.test(type))
    throw new Refusal(415, "content-type", "The Content-Type must be application/json");
  const body = await request.text();
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new Refusal(400, "malformed", "The body is not JSON");
  }
  const read = v.safeParse(REQUEST, inCamelCase(json));
  if (read.success) return read.output;
  const [issue] = read.issues;
  const path = v.getDotPath(issue);
  const what = path === null ? "The body" : `The field ${JSON.stringify(path.slice(0, 100))}`;
  throw new Refusal(
    400,
    "malformed",
    `${what} ${path === null ? "must be a JSON object" : issue.message}`,
  );
}

/**
 * The fields of an object by their names in camelCase: proto3 JSON accepts snake_case as well. Null
 * for anything else.
 */
function inCamelCase(json: unknown): unknown {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return null;
  const fields = Object.entries(json).map(([name, value]: [string, unknown]) => [
    name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ]);
  return Object.fromEntries(fields);
}
