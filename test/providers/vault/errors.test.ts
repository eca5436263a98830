/**
 * The texts of a Vault failure for a caller and for the log.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { forCaller, VaultError } from "../../../providers/vault/errors.ts";
import { ProviderError, reasonOf } from "../../../src/core/errors.ts";

const ORIGIN = "https://vault.internal.example.com:8200";

describe("forCaller()", () => {
  it("keeps servers and files of the machine out of the text for callers, and in that for the log", () => {
    for (const reason of [
      "unreachable",
      "timeout",
      "tls",
      "not_allowed",
      "login_refused",
    ] as const) {
      const failure = new VaultError(reason, `${reason} at ${ORIGIN}`);
      const shown = forCaller(failure);
      assert.ok(shown instanceof ProviderError);
      assert.match(shown.message, /; the server's log has the details$/);
      assert.doesNotMatch(shown.message, /internal/);
      assert.equal(reasonOf(shown), failure.message);
      assert.deepEqual([shown.code, shown.retryAfterMs], [failure.code, failure.retryAfterMs]);
    }
  });

  it("leaves other failures as they are", () => {
    for (const error of [new VaultError("sealed", "Vault is sealed"), new Error("other"), null])
      assert.equal(forCaller(error), error);
  });
});
