/**
 * Logins with invented values: unknown auth methods count as invalid tokens, and the audit log
 * names the method of a login that is refused.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CaError } from "../../src/core/errors.ts";
import type { AuditRecord } from "../../src/core/ports/audit.ts";
import { type Guarded, guarded } from "../fixtures/guarded.ts";

const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
`;
const METHOD = {
  Name: "m",
  Type: "jwt",
  Config: { BoundAudiences: ["meshca"], JWTValidationPubKeys: [PUBLIC_KEY] },
};

async function logIn(
  test: Guarded,
  method: string,
  address = "10.0.0.1",
): Promise<{ status: number; text: string }> {
  const request = new Request("http://127.0.0.1:8500/v1/acl/login", {
    method: "POST",
    body: JSON.stringify({ AuthMethod: method, BearerToken: "a.b.c" }),
    headers: { Host: "127.0.0.1:8500" },
  });
  const response = await test.app.fetch(request, { remoteAddress: address });
  return { status: response.status, text: await response.text() };
}

describe("POST /v1/acl/login", () => {
  it("counts unknown auth methods as invalid tokens, and answers 429 beyond their limit", async () => {
    let wrong = 0;
    const limits = { wrongTokensPerClient: 3, limitLoopback: true };
    const test = await guarded(undefined, { limits, metrics: { countWrongToken: () => wrong++ } });
    for (const name of ["x", "y", "__proto__"])
      assert.deepEqual(await logIn(test, name), {
        status: 403,
        text: `ACL not found: auth method ${JSON.stringify(name)} not found`,
      });
    assert.equal((await logIn(test, "z")).status, 429);
    assert.equal(wrong, 4);
    assert.equal((await logIn(test, "z", "10.0.0.2")).status, 403);
    // Whoever has a token is served all the same.
    assert.equal((await test.call("GET", "/v1/acl/tokens", undefined)).status, 200);
  });

  it("has a line in the audit log when it is refused, which names the auth method if there is one", async () => {
    const lines: AuditRecord[] = [];
    const told = new WeakSet<object>();
    const audit = {
      record: () => undefined,
      beforeChange: async () => undefined,
      refusal(error: unknown, make: (code: string) => AuditRecord) {
        if (!(error instanceof CaError) || told.has(error)) return;
        told.add(error);
        lines.push(make(error.code));
      },
      failure: null,
      stopsSigning: false,
      stopsChanges: false,
      lost: 0,
      reserveLeft: null,
    };
    const test = await guarded(undefined, { audit });
    assert.equal((await test.call("PUT", "/v1/acl/auth-method", METHOD)).status, 200);
    assert.equal((await logIn(test, "m")).status, 403);
    assert.equal((await logIn(test, "n")).status, 403);
    assert.deepEqual(
      lines.map(({ action, subject, outcome, code }) => [action, subject, outcome, code]),
      [
        ["POST /v1/acl/login", "auth-method/m", "refused", "permission_denied"],
        ["POST /v1/acl/login", null, "refused", "token_unknown"],
      ],
    );
  });
});
