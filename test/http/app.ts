/**
 * The app over a CA in this process, on a clock that moves when it is told to.
 * @module
 */

import { readRenewalToken } from "../../src/acl/renewal-token.ts";
import { App } from "../../src/http/app.ts";
import { DEFAULT_HTTP_LIMITS } from "../../src/http/limits.ts";
import type { AppOptions } from "../../src/http/options.ts";
import { createCodec } from "../../src/store/codec.ts";
import { createTestCa, silentLog, type TestCa } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";

export interface TestApp extends TestCa {
  readonly app: App;
  readonly options: AppOptions;
  fetch(target: string, init?: RequestInit): Promise<Response>;
}

/** Options of the app that differ from those of a test, group by group. */
export type Overrides = Partial<Omit<AppOptions, Group>> & {
  readonly [G in Group]?: Partial<AppOptions[G]>;
};
type Group = "acl" | "server" | "limits" | "runtime" | "metrics";

/** The options of an app over a CA. */
export function appOptions(
  { manager, clock, sealer }: TestCa,
  { acl, server, limits, runtime, metrics, ...others }: Overrides = {},
): AppOptions {
  return {
    ca: manager,
    acl: {
      control: null,
      bootstrapReset: () => null,
      bootstrapSecret: () => null,
      managementToken: null,
      ...acl,
    },
    codec: createCodec(sealer),
    readRenewalToken,
    server: {
      datacenter: "dc1",
      connectEnabled: true,
      loopbackOnly: true,
      hosts: null,
      behindProxy: false,
      compressedInFront: false,
      ...server,
    },
    limits: { ...DEFAULT_HTTP_LIMITS, ...limits },
    runtime: {
      clock,
      random: systemRandom,
      log: silentLog,
      inRequest: (_requestId, work) => work(),
      ...runtime,
    },
    metrics: {
      render: async () => ({ type: "text/plain", text: "" }),
      countRequest: () => undefined,
      countWrongToken: () => undefined,
      ...metrics,
    },
    audit: null,
    details: () => [],
    ...others,
  };
}

/** Makes an app over a CA that has been started, or over the CA given. */
export async function createTestApp(overrides: Overrides = {}, ca?: TestCa): Promise<TestApp> {
  const started = ca ?? (await createTestCa());
  const options = appOptions(started, overrides);
  const app = new App(options);
  return {
    ...started,
    app,
    options,
    fetch: async (target, init = {}) => {
      const headers = new Headers(init.headers);
      headers.set("Host", "127.0.0.1:8500");
      return app.fetch(new Request(`http://127.0.0.1:8500${target}`, { ...init, headers }));
    },
  };
}

/** A configuration with this life of leaves and everything else as it is at first. */
export function leafTtl(ttl: string): RequestInit {
  const body = JSON.stringify({
    Provider: "consul",
    Config: { IntermediateCertTTL: "8760h", LeafCertTTL: ttl, RootCertTTL: "87600h" },
  });
  return { method: "PUT", body };
}

/** Lets everything run that can run without the clock or the outside. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Resolves once something holds. @throws when it does not within five seconds. */
export async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`It never became true: ${holds}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
