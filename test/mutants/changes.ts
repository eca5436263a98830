/**
 * Guards of security: changes of the CA, and scheduled deletion and renewal.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const CHANGES: readonly Mutant[] = [
  ...guardsOf(
    "src/core/ca/replica-health.ts",
    [
      "a clock that was set back",
      "return age >= 0 && age <= ms;",
      "return age <= ms;",
      "core/ca/freshness",
    ],
    [
      "a comparison of clocks over a long round trip",
      "if (after >= before && after - before <= this.#policy.maxClockSkewMs)",
      "if (after >= before)",
      "core/ca/freshness",
    ],
    [
      "half a leaf's life as a bound of staleness",
      "Math.min(maxStalenessMs, leafTtlMs / 2)",
      "maxStalenessMs",
      "core/ca/freshness",
    ],
  ),
  ...guardsOf("src/core/ca/plan-change.ts", [
    "a new name of the server that the root forbids",
    "requireNamesPermitted(present, root, change);",
    "",
    "core/ca/change",
  ]),
  ...guardsOf("src/core/ca/replica.ts", [
    "the open provider of a state that was read before its commit was answered",
    "(next.state.commitId === previous.state.commitId && previous.fault === null)",
    "false",
    "core/ca/change",
  ]),
  ...guardsOf(
    "src/core/ca/maintenance.ts",
    [
      "the backoff of a step that fails",
      "1000 * 2 ** memory.failures",
      "2000",
      "core/ca/maintenance",
    ],
    [
      "the bound of the backoff",
      "Math.min(8, memory.failures + 1)",
      "memory.failures + 1",
      "core/ca/maintenance",
    ],
  ),
  ...guardsOf(
    "src/core/ca/rollback.ts",
    [
      "resources of an aborted change, once another change may use them",
      "free = this.#leftovers.filter(({ base }) => base === context.base)",
      "free = this.#leftovers",
      "core/ca/maintenance",
    ],
    [
      "the order of a rollback",
      "of compensations.toReversed()",
      "of compensations",
      "core/ca/change",
    ],
  ),
  ...guardsOf(
    "src/core/ca/change.ts",
    [
      "resources of a change with an unknown outcome",
      'if (!(error instanceof NotReadyError && error.code === "outcome_unknown"))',
      "if (error instanceof Error)",
      "core/ca/change",
    ],
    ["a new provider that is not committed", "      change.close();\n", "", "core/ca/change"],
  ),
  ...guardsOf(
    "src/core/ca/resolve.ts",
    [
      "the first index of a root that both sides have",
      "createIndex: Math.min(",
      "createIndex: Math.max(",
      "core/ca/resolve",
    ],
    ["a root that was abandoned on one side", "...abandonedBy(root, twin),", "", "core/ca/resolve"],
    [
      "a backup whose root was abandoned since",
      "  if (!force) requireNotAbandoned(kept, other);\n",
      "",
      "http/backup",
    ],
    [
      "a root that was pruned since a backup",
      "kept.roots.filter((root) => !isPruned(root))",
      "kept.roots",
      "core/ca/restore",
    ],
    [
      "the index under which a backup is restored",
      "if (modifyIndex === null || modifyIndex === 0n ||",
      "if (modifyIndex !== null ||",
      "http/backup",
    ],
  ),
  ...guardsOf(
    "src/core/ca/replica.ts",
    [
      "another state under the same index",
      "if (state.index === index && state.commitId !== commitId)",
      "if (state.index < 0)",
      "core/ca/conflict",
    ],
    [
      "a state that does not descend from the one that was seen",
      "if (!descends(state, seen.state))",
      "if (state.index < 0)",
      "core/ca/conflict",
    ],
    [
      "a lost grant of the lease",
      "if (stored.term < seen.term)",
      "if (stored.term < 0)",
      "core/ca/conflict",
    ],
  ),
  ...guardsOf(
    "src/core/ca/cross-chain.ts",
    [
      "the life of a cross-signed certificate",
      "return new Date(Math.max(pruneAt(by, policy).getTime(), now.getTime()) + by.leafTtlMaxMs);",
      "return by.certificate.notAfter;",
      "core/ca/cross-chain-life",
    ],
    [
      "of several cross-signed certificates the one that ends first",
      "a.notAfter.getTime() - b.notAfter.getTime())[0]",
      "b.notAfter.getTime() - a.notAfter.getTime())[0]",
      "core/ca/cross-chain",
    ],
    [
      "abandoned roots without a path to the active root",
      'root.status === "retired" && !root.abandoned && root',
      'root.status === "retired" && root',
      "core/ca/cross-chain",
    ],
  ),
  ...guardsOf(
    "src/core/ca/chain-size.ts",
    [
      "the leaf among the certificates of a chain",
      "return 1 + intermediates.length;",
      "return intermediates.length;",
      "core/ca/chain-size",
    ],
    [
      "the bound of a chain's length",
      "  if (force || excess === null) return;",
      "  if (force || excess !== null) return;",
      "core/ca/chain-size",
    ],
    [
      "the root that signs now, which waiting does not retire",
      "isGone = (root: RootEntry) => root.id !== retiring && isDead",
      "isGone = (root: RootEntry) => isDead",
      "core/ca/chain-size",
    ],
  ),
  ...guardsOf("src/core/ca/root-removal.ts", [
    "looks that confirm the end of a root",
    "time.confirmed(confirmMs(root, policy)) > removableAt(root, policy)",
    "time.now > removableAt(root, policy)",
    "core/ca/clocks",
  ]),
  ...guardsOf("src/core/ca/config-fields.ts", [
    "two spellings of one field",
    "if (same.length === 0) return;",
    "if (same.length >= 0) return;",
    "core/ca/config-fields",
  ]),
  ...guardsOf(
    "src/core/deletion-time.ts",
    [
      "time that the monotonic clock does not confirm",
      "since: Math.min(since + jumped, now.wallMs)",
      "since",
      "core/deletion-time",
    ],
    [
      "a step back of the clock",
      "add({ reached: Math.min(reached, now.wallMs)",
      "add({ reached",
      "core/deletion-time",
    ],
    [
      "a first look that confirms nothing",
      "nowMs - since >= spanMs)",
      "nowMs - since >= 0)",
      "core/deletion-time",
    ],
  ),
  ...guardsOf(
    "src/core/ca/config-fields.ts",
    [
      "a hidden secret for another provider",
      "if (request.provider !== stored.provider)",
      'if (request.provider === "")',
      "core/ca/issuers",
    ],
    [
      "a hidden secret that is not stored",
      "if (!present.includes(foldedName(name)))",
      'if (present.includes(""))',
      "core/ca/issuers",
    ],
  ),
  ...guardsOf("src/core/ca/schedule.ts", [
    "an automatic rotation by one reading of a clock that was ahead",
    "rotateAt <= confirmed",
    "rotateAt <= time.now",
    "core/ca/auto-rotation",
  ]),
  ...guardsOf("src/core/ca/auto-rotation.ts", [
    "an automatic rotation of a root that an operator supplied",
    "next?.obstacle === null ? next.at : null",
    "next?.at ?? null",
    "core/ca/auto-rotation",
  ]),
  ...guardsOf("src/core/state.ts", [
    "a state with RootAutoRotate for a version that would drop the field",
    "if (names(FIELDS_SINCE_6)) return 6;",
    "",
    "core/ca/auto-rotation",
  ]),
  ...guardsOf("providers/common-config.ts", [
    "the least and the largest RootAutoRotate",
    "rootAutoRotate !== 0 && !(rootAutoRotate >= MIN_SHARE && rootAutoRotate < 1)",
    "false",
    "core/ca/auto-rotation",
  ]),
  ...guardsOf(
    "src/http/ca-json.ts",
    [
      "an expired root in the listing",
      'status === "active" || certificate.notAfter > now',
      "true",
      "http/roots",
    ],
    [
      "the active root in the listing after its expiry",
      'status === "active" || certificate.notAfter > now',
      "certificate.notAfter > now",
      "http/roots",
    ],
  ),
  ...guardsOf(
    "src/http/routes/roots.ts",
    [
      "a listing from before a root expired",
      "known.since <= time && time < known.until",
      "known.since <= time",
      "http/roots",
    ],
    [
      "a listing without a root that a clock ahead left out",
      "known.since <= time && time < known.until",
      "time < known.until",
      "http/roots",
    ],
    ["the ETag of a listing from before a root expired", "hidden === 0", "true", "http/roots"],
  ),
];
