/**
 * The app with access control in one process: the real directory, authorizer, admin and
 * login, on one fake clock.
 * @module
 */
import { AclRecords } from "../../src/acl/admin.ts";
import { KeySets } from "../../src/acl/jwks.ts";
import { Login } from "../../src/acl/login.ts";
import { TokenReviews } from "../../src/acl/token-review.ts";
import type { Acl } from "../../src/core/acl/ports.ts";
import { maxLeafLifeMs } from "../../src/core/ca/leaf-issuers.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/policy.ts";
import { createTestAccess, type TestAccess } from "../acl/access.ts";
import { createTestCa, type TestCa, trustDomain } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestApp, type Overrides, type TestApp } from "./app.ts";

export interface Guarded extends TestApp {
  readonly access: TestAccess;
  /** The secret of a token that may do everything. */
  readonly management: string;
  call(
    method: string,
    path: string,
    body: unknown,
    secret?: string,
  ): Promise<{ status: number; text: string }>;
}

/** The app over a CA with access control, on one fake clock. */
export async function guarded(
  ca?: TestCa,
  overrides: Omit<Overrides, "acl"> = {},
): Promise<Guarded> {
  const started = ca ?? (await createTestCa());
  const { manager } = started;
  const access = await createTestAccess({ clock: started.clock });
  const { directory, authorizer, clock } = access;
  const leaves = {
    scope: () => ({ trustDomain: trustDomain(manager), datacenter: "dc1" }),
    horizonMs: () => maxLeafLifeMs(manager.require(), DEFAULT_POLICY),
  };
  const outside = {
    fetch: async () => Response.error(),
    resolve: async () => [],
    hosts: ["issuer.example"],
    privateHosts: [],
    clock,
  };
  const [keySets, reviews] = [new KeySets(outside), new TokenReviews(outside)];
  const admin = new AclRecords({
    directory,
    clock,
    random: systemRandom,
    keySets,
    reviews,
    leaves,
  });
  const login = new Login({
    directory,
    keySets,
    reviews,
    datacenter: "dc1",
    clock,
    random: systemRandom,
  });
  const control: Acl = {
    defaultPolicy: "deny",
    authorize: (secret) => authorizer.authorize(secret),
    admin,
    denylistEntryOf: (subject) => admin.denylist.entryOf(subject),
    adminFor: () => admin,
    login: (request, before) => login.login(request, before),
    logout: (secret, before) => login.logout(secret, before),
    kek: null,
    rewrap: async () => false,
    get state() {
      return directory.state;
    },
    conflict: () => directory.conflict(),
    resolve: (keep, before) => directory.resolve(keep, before),
  };
  const app = await createTestApp({ ...overrides, acl: { control } }, started);
  const policy = await access.addPolicy(
    'operator = "write" acl = "write" mesh = "write" service_prefix "" { policy = "write" } node_prefix "" { policy = "write" }',
  );
  const { secret: management } = await access.addToken({ policies: [policy.id] });
  return {
    ...app,
    access,
    management,
    async call(method, path, body, secret = management) {
      const response = await app.fetch(path, {
        method,
        ...(body === undefined
          ? {}
          : { body: typeof body === "string" ? body : JSON.stringify(body) }),
        headers: { "X-Consul-Token": secret },
      });
      return { status: response.status, text: await response.text() };
    },
  };
}
