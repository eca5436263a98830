/**
 * Guards of security: stored and encrypted data.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const STORED: readonly Mutant[] = [
  ...guardsOf(
    "src/store/state-document.ts",
    [
      "the MAC of a stored state",
      "if (!(await this.#sealer.verifyMac(input, mac)))",
      'if (mac === "")',
      "core/ca/replica",
    ],
    [
      "a schema that would lose stored fields",
      "if (schema < leastSchema(state))",
      "if (schema < 0)",
      "store/state-document",
    ],
  ),
  ...guardsOf("src/core/ca/replica.ts", [
    "a state of another trust domain in the store",
    "if (isSame && stored.trustDomain === seen.trustDomain) return;",
    "if (isSame) return;",
    "http/trust-domain",
  ]),
  ...guardsOf("src/core/ca/resolve.ts", [
    "a backup of another trust domain",
    "if (present.trustDomain !== backup.trustDomain)",
    "if (present.trustDomain === null)",
    "http/trust-domain",
  ]),
  ...guardsOf(
    "src/store/looks.ts",
    [
      "looks out of order",
      "reached > before.reached && since > before.since",
      "true",
      "store/looks",
    ],
    [
      "looks that another worker saved",
      "if (this.#read() !== version) return false;",
      "",
      "store/looks",
    ],
  ),
  ...guardsOf("src/store/redis/resp.ts", [
    "the end of a bulk string",
    'if (this.#end < end + "\\r\\n".length) return INCOMPLETE;',
    "if (this.#end < end) return INCOMPLETE;",
    "store/redis/wire",
  ]),
  ...guardsOf(
    "src/seal/envelope.ts",
    [
      "the purpose of an encrypted secret",
      '["meshca", 1, clusterId, purpose, id]',
      '["meshca", 1, clusterId]',
      "seal/envelope",
    ],
    [
      "the cluster that a secret is sealed for",
      '["meshca", 1, clusterId, purpose, id]',
      '["meshca", 1, purpose, id]',
      "seal/envelope",
    ],
    [
      "the MAC key of the id that a MAC names",
      "const key = this.#ring.get(id)?.mac;",
      "const key = this.#ring.get(id) && this.#ring.current.mac;",
      "seal/envelope",
    ],
    [
      "a sealed text with a part too many",
      " || more.length > 0)\n      throw",
      ")\n      throw",
      "seal/envelope",
    ],
  ),
  ...guardsOf(
    "src/seal/kek.ts",
    ["the length of a key-encryption key", " || key.length !== KEK_LENGTH)", ")", "seal/kek"],
    ["two keys of one id", "else if (keys.has(id))", 'else if (id === "")', "seal/kek"],
  ),
];
