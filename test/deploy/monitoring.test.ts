/**
 * The Grafana board and the alert rules of deploy/monitoring: their queries are of metrics that exist
 * with these labels, Prometheus reads them, and each alert fires in its test and not without cause.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ROOT } from "../fixtures/root.ts";

const FOLDER = join(ROOT, "deploy/monitoring");
const readText = (path: string) => readFileSync(join(ROOT, path), "utf8");

interface Panel {
  readonly type: string;
  readonly title: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
const BOARD = JSON.parse(readText("deploy/monitoring/grafana.json")) as {
  readonly panels: readonly (Panel & {
    readonly id: number;
    readonly gridPos: Readonly<Record<"x" | "y" | "w" | "h", number>>;
  })[];
};
const RULES = readText("deploy/monitoring/alerts.yaml");
const TESTS = readText("deploy/monitoring/alerts.test.yaml");

/** The labels of each metric in the tables of the documents. */
const DOCUMENTED = new Map(
  ["docs/operations.md", "docs/workloads.md"].flatMap((file) =>
    [
      ...readText(file).matchAll(/^\| `([a-z_]+)` +\| (counter|gauge|histogram) +\| ([^|]*)\|/gm),
    ].map(
      ([, name = "", type, labels = ""]): [
        string,
        { type: string | undefined; labels: string[] },
      ] => [
        name,
        { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = ""]) => label) },
      ],
    ),
  ),
);
/** Labels that Prometheus adds. */
const TARGET_LABELS = ["job", "instance", "le"];

const QUERIES = [
  ...BOARD.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, legendFormat }) => ({ where: title, expr, legend: legendFormat })),
  ),
  ...[...RULES.matchAll(/alert: (\w+)\n(?: +#.*\n)? +expr: (.*)$/gm)].map(
    ([, where = "", expr = ""]) => ({ where, expr, legend: "" }),
  ),
];

/** The metric of a name in a query; the series of a histogram have suffixes. */
const metricOf = (name: string) =>
  DOCUMENTED.has(name) ? name : name.replace(/_(bucket|count|sum)$/, "");

const namesIn = (expr: string) =>
  [...expr.matchAll(/\b(?:meshca|process)_\w+/g)].map(([name]) => name);

/** How long promtool may take on a loaded machine, in milliseconds. */
const PROMTOOL_MS = 600_000;

function promtool(...args: string[]) {
  return spawnSync("promtool", args, { encoding: "utf8" });
}
/** Why Prometheus cannot be used, or false. With CI=true nothing is skipped. */
const noPromtool: string | false =
  process.env.CI === "true" || promtool("--version").status === 0
    ? false
    : "promtool is not installed (Debian: prometheus)";

describe("deploy/monitoring", () => {
  it("queries metrics that the documents name, with labels that they have", () => {
    assert.ok(DOCUMENTED.size > 40 && QUERIES.length > 60);
    for (const { where, expr, legend } of QUERIES) {
      const metrics = namesIn(expr).map(metricOf);
      if (!/\bup\{/.test(expr)) assert.ok(metrics.length > 0, `${where}: ${expr}`);
      for (const metric of metrics) assert.ok(DOCUMENTED.has(metric), `${where}: ${metric}`);
      const allowed = [
        ...TARGET_LABELS,
        ...metrics.flatMap((metric) => DOCUMENTED.get(metric)?.labels ?? []),
      ];
      const used = [
        ...[...expr.matchAll(/(\w+)=~?"/g)].map(([, label = ""]) => label),
        ...[...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = ""]) => list.split(/, */)),
        ...[...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label),
      ];
      for (const label of used) assert.ok(allowed.includes(label), `${where}: ${label}`);
    }
  });

  it("takes rates of counters and histograms, and of nothing else", () => {
    for (const { where, expr } of QUERIES)
      for (const [, fn = "", name = ""] of expr.matchAll(/(rate|increase)\((\w+)/g))
        assert.match(
          DOCUMENTED.get(metricOf(name))?.type ?? "",
          /counter|histogram/,
          `${where} ${fn}`,
        );
  });

  it("shows every metric of ours on the board, or alerts by it", () => {
    const used = new Set(QUERIES.flatMap(({ expr }) => namesIn(expr).map(metricOf)));
    const left = [...DOCUMENTED.keys()].filter(
      (name) => name.startsWith("meshca_") && !used.has(name),
    );
    // Instants and numbers that other panels have in another form.
    assert.deepEqual(
      left.toSorted((a, b) => a.localeCompare(b)),
      [
        "meshca_agent_build_info",
        "meshca_agent_last_contact_timestamp_seconds",
        "meshca_agent_roots_index",
        "meshca_agent_streams",
        "meshca_agent_svid_not_after_timestamp_seconds",
        "meshca_intermediates_first_not_after_timestamp_seconds",
      ],
    );
  });

  it("has a board whose panels do not overlap, each with a number of its own", () => {
    const { panels } = BOARD;
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    for (const [i, { gridPos: a, title }] of panels.entries()) {
      assert.ok(a.x + a.w <= 24, title);
      for (const { gridPos: b, title: other } of panels.slice(i + 1))
        assert.ok(
          a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y,
          `${title} and ${other}`,
        );
    }
  });

  it("tests each alert, and no other", () => {
    const alerts = [...RULES.matchAll(/- alert: (\w+)/g)].map(([, name = ""]) => name);
    const tested = new Set([...TESTS.matchAll(/alertname="(\w+)"/g)].map(([, name = ""]) => name));
    assert.deepEqual(tested, new Set(alerts));
    assert.equal(new Set(alerts).size, alerts.length);
    for (const severity of [...RULES.matchAll(/severity: (\w+)/g)].map(([, value = ""]) => value))
      assert.match(severity, /^(info|warning|critical)$/);
  });

  it("has rules that Prometheus reads, and tests that pass", {
    skip: noPromtool,
    timeout: PROMTOOL_MS,
  }, () => {
    for (const args of [
      ["check", "rules", join(FOLDER, "alerts.yaml")],
      ["test", "rules", join(FOLDER, "alerts.test.yaml")],
    ]) {
      const { status, stdout, stderr } = promtool(...args);
      assert.equal(status, 0, `${stdout}${stderr}`);
    }
  });

  it("has queries on the board that Prometheus reads", { skip: noPromtool }, () => {
    const rules = BOARD.panels
      .flatMap(({ targets = [] }) => targets)
      .map(({ expr }, i) => `      - { record: "q${i}", expr: ${JSON.stringify(expr)} }`);
    const file = `groups:\n  - name: board\n    rules:\n${rules.join("\n")}\n`;
    const { status, stderr, stdout } = spawnSync("promtool", ["check", "rules", "/dev/stdin"], {
      input: file,
      encoding: "utf8",
    });
    assert.equal(status, 0, `${stdout}${stderr}`);
    assert.match(`${stdout}${stderr}`, new RegExp(`${rules.length} rules found`));
  });
});
