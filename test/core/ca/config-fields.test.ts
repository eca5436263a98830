import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { requireDistinctFields, sameFields } from "../../../src/core/ca/config-fields.ts";
import { ConfigError } from "../../../src/core/errors.ts";

describe("requireDistinctFields()", () => {
  const twice: readonly [name: string, json: string, first: string, second: string][] = [
    ["another case", '{"Address":"a","address":"b"}', "Address", "address"],
    ["underscores", '{"Address":"a","Addr_ess":"b"}', "Address", "Addr_ess"],
    ["snake case", '{"root_pki_path":"a","RootPKIPath":"b"}', "root_pki_path", "RootPKIPath"],
    [
      "a nested level",
      '{"AuthMethod":{"MountPath":"a","mount_path":"b"}}',
      "AuthMethod.MountPath",
      "AuthMethod.mount_path",
    ],
    [
      "parameters",
      '{"A":{"Params":{"role_id":1,"RoleID":2}}}',
      "A.Params.role_id",
      "A.Params.RoleID",
    ],
    ["an object in a list", '{"A":[{"b":1,"B":2}]}', "A.0.b", "A.0.B"],
    ["a property that every object has", '{"__proto__":{"a":1},"PROTO":2}', "__proto__", "PROTO"],
    ["the name of a method", '{"constructor":1,"Constructor":2}', "constructor", "Constructor"],
    ["a letter that folds to ASCII", '{"Token":1,"To\\u212aen":2}', "Token", "To\u212aen"],
  ];
  for (const [name, json, first, second] of twice)
    it(`refuses a field that is given twice, distinguished by ${name}, and names both`, () => {
      assert.throws(
        () => requireDistinctFields(JSON.parse(json)),
        (error: unknown) =>
          error instanceof ConfigError &&
          error.message ===
            `${JSON.stringify(first)} and ${JSON.stringify(second)} are the same field: give one of them`,
      );
    });

  it("takes the same name at different levels, and lists of equal objects", () => {
    requireDistinctFields({ a: { a: { a: 1 } }, b: [{ a: 1 }, { a: 1 }], c: null });
    requireDistinctFields(null);
    assert.deepEqual(sameFields("text"), []);
  });

  it("names every pair", () => {
    assert.equal(sameFields({ a: 1, A: 2, b: { c: 1, C: 2 }, _a: 3 }).length, 3);
  });
});
