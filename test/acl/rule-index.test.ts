/**
 * Compiled rules: precedence, Consul's identities, and the cost of a decision.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  CompiledRules,
  type Decision,
  GLOBAL_MANAGEMENT,
  nodeIdentityRules,
  serviceIdentityRules,
} from "../../src/acl/rule-index.ts";
import { readRules } from "../../src/acl/rules.ts";
import type { AccessLevel, Resource } from "../../src/core/acl/authorizer.ts";

type Asked = readonly [resource: Resource, access: AccessLevel, name: string, decision: Decision];

describe("CompiledRules", () => {
  const tables: readonly [what: string, policies: readonly string[], asked: readonly Asked[]][] = [
    ["nothing decides nothing", [], [["service", "read", "web", "default"]]],
    [
      "write grants read, read does not grant write, deny grants neither",
      [
        'service "w" { policy = "write" } service "r" { policy = "read" } service "d" { policy = "deny" }',
      ],
      [
        ["service", "write", "w", "allow"],
        ["service", "read", "w", "allow"],
        ["service", "write", "r", "deny"],
        ["service", "read", "r", "allow"],
        ["service", "write", "d", "deny"],
        ["service", "read", "d", "deny"],
        ["service", "read", "x", "default"],
      ],
    ],
    [
      "an exact name comes before any prefix",
      [
        'service_prefix "" { policy = "deny" } service "web" { policy = "write" } service_prefix "we" { policy = "read" }',
      ],
      [
        ["service", "write", "web", "allow"],
        ["service", "write", "web-1", "deny"],
        ["service", "read", "web-1", "allow"],
        ["service", "read", "api", "deny"],
      ],
    ],
    [
      "the longest prefix counts, whatever it grants",
      [
        'node_prefix "a" { policy = "write" } node_prefix "ab" { policy = "deny" } node_prefix "abc" { policy = "write" }',
      ],
      [
        ["node", "write", "a", "allow"],
        ["node", "write", "ab", "deny"],
        ["node", "write", "abb", "deny"],
        ["node", "write", "abcd", "allow"],
        ["node", "write", "", "default"],
      ],
    ],
    [
      "a prefix is no exact name, and an exact name no prefix",
      ['service "web" { policy = "write" }'],
      [
        ["service", "write", "web-admin", "default"],
        ["service", "write", "we", "default"],
        ["service", "write", "WEB", "default"],
      ],
    ],
    [
      "for one thing in several policies deny comes before write and write before read",
      [
        'service "a" { policy = "read" } service "b" { policy = "write" } service_prefix "p" { policy = "write" } operator = "read"',
        'service "a" { policy = "write" } service "b" { policy = "deny" } service_prefix "p" { policy = "deny" } operator = "write"',
        'service "b" { policy = "write" } service_prefix "p" { policy = "read" } operator = "read"',
      ],
      [
        ["service", "write", "a", "allow"],
        ["service", "read", "b", "deny"],
        ["service", "read", "px", "deny"],
        ["operator", "write", "", "allow"],
      ],
    ],
    [
      "resources do not speak for each other",
      ['service_prefix "" { policy = "write" } agent_prefix "" { policy = "write" } acl = "write"'],
      [
        ["node", "read", "web", "default"],
        ["operator", "read", "", "default"],
        ["mesh", "read", "", "default"],
        ["acl", "write", "", "allow"],
        ["agent", "write", "x", "allow"],
      ],
    ],
    [
      "the mesh goes by operator where no rule is about it, as in Consul",
      ['operator = "write"'],
      [["mesh", "write", "", "allow"]],
    ],
    [
      "a rule about the mesh comes before operator",
      ['operator = "write" mesh = "read"'],
      [["mesh", "write", "", "deny"]],
    ],
    [
      "names of objects' own properties are names like any other",
      ['service "web" { policy = "write" }'],
      [
        ["service", "write", "__proto__", "default"],
        ["service", "write", "constructor", "default"],
      ],
    ],
  ];
  for (const [what, policies, asked] of tables)
    it(`CompiledRules: ${what}`, () => {
      const acl = new CompiledRules(policies.flatMap((policy) => readRules(policy)));
      for (const [resource, access, name, decision] of asked)
        assert.equal(
          acl.decide(resource, access, name),
          decision,
          `${resource}:${access} on ${JSON.stringify(name)}`,
        );
    });

  it("decide() does not depend on the order of rules", () => {
    const rules = readRules(
      'service "a" { policy = "read" } service "a" { policy = "deny" } service_prefix "" { policy = "write" }',
    );
    for (const order of [rules, rules.toReversed()]) {
      assert.equal(new CompiledRules(order).decide("service", "read", "a"), "deny");
      assert.equal(new CompiledRules(order).decide("service", "write", "b"), "allow");
    }
  });

  it("serviceIdentityRules() grants write for the service and its sidecar, and read for all services and nodes", () => {
    const acl = new CompiledRules(serviceIdentityRules("web"));
    for (const name of ["web", "web-sidecar-proxy"])
      assert.equal(acl.decide("service", "write", name), "allow");
    for (const name of ["web-1", "web-sidecar-proxy-1", "api"]) {
      assert.equal(acl.decide("service", "write", name), "deny");
      assert.equal(acl.decide("service", "read", name), "allow");
    }
    assert.equal(acl.decide("node", "read", "n"), "allow");
    assert.equal(acl.decide("node", "write", "n"), "deny");
    assert.equal(acl.decide("agent", "read", "n"), "default");
  });

  it("nodeIdentityRules() grants write for the node, and read for all services", () => {
    const acl = new CompiledRules(nodeIdentityRules("n1"));
    assert.equal(acl.decide("node", "write", "n1"), "allow");
    assert.equal(acl.decide("node", "read", "n2"), "default");
    assert.equal(acl.decide("service", "read", "web"), "allow");
    assert.equal(acl.decide("service", "write", "web"), "deny");
  });

  it("GLOBAL_MANAGEMENT grants everything", () => {
    const acl = new CompiledRules(readRules(GLOBAL_MANAGEMENT.rules));
    for (const resource of ["service", "node", "agent", "acl", "operator", "mesh"] as const)
      assert.equal(acl.decide(resource, "write", resource === "service" ? "any" : ""), "allow");
  });

  it("decide() probes once for each length of a prefix, and not for each of ten thousand", () => {
    const compiled = (count: number) =>
      new CompiledRules(
        Array.from(
          { length: count },
          (_, i) =>
            ({
              resource: "service",
              match: "prefix",
              name: `p${i}-`,
              disposition: "read",
            }) as const,
        ),
      );
    // A loop over the rules would use entries(), keys() or forEach(), or get() for each.
    const probes = (acl: CompiledRules) => {
      const { get, entries, keys, values, forEach } = Map.prototype;
      let count = 0;
      const refuse = () => assert.fail("a look-up must not go through all rules");
      Map.prototype.get = function (key) {
        count++;
        return get.call(this, key);
      };
      Object.assign(Map.prototype, {
        entries: refuse,
        keys: refuse,
        values: refuse,
        forEach: refuse,
      });
      try {
        assert.equal(acl.decide("service", "read", "p9-some-service"), "allow");
      } finally {
        Object.assign(Map.prototype, { get, entries, keys, values, forEach });
      }
      return count;
    };
    // The table of the resource, the exact name, and lengths 3; 6, 5, 4 and 3.
    assert.deepEqual([probes(compiled(10)), probes(compiled(10_000))], [3, 6]);
  });
});
