/**
 * The CA API as a Hono app: mounts the routes.
 * @module
 */
import { Hono } from "hono";
import { Watchers } from "./blocking.ts";
import { Forwarder } from "./forwarding.ts";
import type { AppOptions } from "./options.ts";
import { type Bindings, Pipeline } from "./pipeline.ts";
import { BodyReader } from "./request-body.ts";
import { COMMON, requestRefusal, text, unknownPath, withRequestId } from "./responses.ts";
import type { RequestEnvironment, Route } from "./route.ts";
import { aclRoutes } from "./routes/acl.ts";
import { aclAuthorizeRoutes } from "./routes/acl-authorize.ts";
import { aclConflictRoutes } from "./routes/acl-conflict.ts";
import { backupRoutes } from "./routes/backup.ts";
import { catalogRoutes } from "./routes/catalog.ts";
import { configurationRoutes } from "./routes/configuration.ts";
import { datacenterStatusRoutes } from "./routes/datacenter-status.ts";
import { denylistRoutes } from "./routes/denylist.ts";
import { diagnosisRoutes } from "./routes/diagnosis.ts";
import { dropRoutes } from "./routes/drop.ts";
import { intermediateRoutes } from "./routes/intermediates.ts";
import { leavesRoutes } from "./routes/leaves.ts";
import { promoteRoutes } from "./routes/promote.ts";
import { renewRoutes } from "./routes/renew.ts";
import { rewrapRoutes } from "./routes/rewrap.ts";
import { rootsRoutes } from "./routes/roots.ts";
import { signRoutes } from "./routes/sign.ts";
import { stateConflictRoutes } from "./routes/state-conflict.ts";
import { statusRoutes } from "./routes/status.ts";

/** Every route of the server. */
export function routesOf(options: AppOptions, watchers: Watchers): Route[] {
  const { ca, acl, codec, readRenewalToken, server, limits, runtime, audit } = options;
  const { control } = acl;
  const { datacenter } = server;
  const { maxBodySign, maxBodyConfiguration, maxBodyBackup, limitLoopback } = limits;
  const bodies = new BodyReader(runtime.clock, limits.bodyTimeMs);
  const signing = { ca, control, bodies, maxBody: maxBodySign };
  return [
    ...rootsRoutes({ ca, watchers, datacenter, limitLoopback, clock: runtime.clock }),
    ...configurationRoutes({ ca, bodies, maxBody: maxBodyConfiguration }),
    ...catalogRoutes({ datacenter, others: options.others }),
    ...signRoutes(signing),
    ...renewRoutes({ ...signing, clock: runtime.clock, readRenewalToken }),
    ...intermediateRoutes(signing),
    ...leavesRoutes({ ca }),
    ...rewrapRoutes({ ca, control, audit }),
    ...stateConflictRoutes({ ca, bodies }),
    ...backupRoutes({
      ...{ ca, codec, audit, bodies, maxBody: maxBodyBackup },
      backups: options.backups,
      runtime,
    }),
    ...dropRoutes({ ca, bodies, maxBody: maxBodyConfiguration }),
    ...promoteRoutes({ ca, codec, bodies, maxBody: maxBodyBackup }),
    ...denylistRoutes({ control, audit, bodies }),
    ...aclRoutes({ acl, audit, bodies }),
    ...aclAuthorizeRoutes({ control, audit, bodies }),
    ...aclConflictRoutes({ acl, audit, bodies }),
    ...diagnosisRoutes(options.diagnose),
    ...datacenterStatusRoutes({
      ...{ ca, control, server, others: options.others },
      clock: runtime.clock,
    }),
    ...statusRoutes({
      ca,
      control,
      audit,
      server,
      details: options.details,
      renderMetrics: options.metrics.render,
    }),
  ];
}

export class App {
  /** Blocking queries. */
  readonly watchers: Watchers;
  readonly #options: AppOptions;
  readonly #pipeline: Pipeline;
  readonly #hono = new Hono<{ Bindings: Bindings }>({ strict: true });

  constructor(options: AppOptions) {
    const { ca, limits, runtime, acl } = options;
    const { clock, random } = runtime;
    const { control } = acl;
    const defaultPolicy = () => control?.defaultPolicy ?? "allow";
    this.#options = options;
    this.watchers = new Watchers({ ca, clock, random, limits });
    const forwarder = new Forwarder({
      others: options.others,
      datacenter: options.server.datacenter,
      watchers: this.watchers,
      bodies: new BodyReader(clock, limits.bodyTimeMs),
      maxBody: limits.maxBodyConfiguration,
      log: runtime.log,
    });
    const pipeline = new Pipeline({ ...options, control, defaultPolicy, forwarder });
    this.#pipeline = pipeline;
    const { agentRoutes = [] } = options;
    for (const route of [...routesOf(options, this.watchers), ...agentRoutes])
      this.#hono.all(route.path, (c) => pipeline.serve(c, route));
    this.#hono.notFound((c) => this.#unrouted(c.req.raw, c.env, this.#notFound(c.req.raw)));
  }

  fetch(request: Request, environment: RequestEnvironment = {}): Response | Promise<Response> {
    // Never an id that the client sends: it could name another request in the log.
    const requestId = environment.requestId ?? crypto.randomUUID();
    const response = this.#options.runtime.inRequest(requestId, () =>
      this.#dispatch(request, { environment, requestId }),
    );
    return response instanceof Promise
      ? response.then((made) => withRequestId(made, requestId))
      : withRequestId(response, requestId);
  }

  /** Answers all blocking queries. */
  close(): void {
    this.watchers.close();
  }

  #dispatch(sent: Request, bindings: Bindings): Response | Promise<Response> {
    // On some runtimes a request of HTTP/1.0 without a Host has only a path.
    const request = sent.url.startsWith("/")
      ? new Request(`http://localhost${sent.url}`, sent)
      : sent;
    const refusal = requestRefusal(request, this.#options.limits);
    return refusal === null
      ? this.#hono.fetch(request, bindings)
      : this.#unrouted(request, bindings, refusal);
  }

  #notFound(request: Request): Response {
    const known = this.#options.textOfUnknown?.(new URL(request.url).pathname) ?? null;
    return known === null ? unknownPath(request) : text(404, known, COMMON);
  }

  #unrouted(request: Request, bindings: Bindings, response: Response): Response {
    this.#pipeline.record(request, bindings, "unknown", response);
    return response;
  }
}
