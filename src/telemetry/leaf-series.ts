/**
 * Series of Prometheus about live leaves, by the counts that all replicas share: each replica has the
 * same values, to within a heartbeat.
 * @module
 */
import type { Registry } from "prom-client";
import type { LeafSummary } from "../core/ca/leaf-summary.ts";
import { addGauge } from "./series.ts";

/** @param summary null before there is a CA. */
export function addLeafSeries(registry: Registry, summary: () => LeafSummary | null): void {
  const registers = [registry];
  const labelNames = ["id", "status"];
  const roots = () => summary()?.roots ?? [];
  addGauge(
    {
      name: "meshca_leaves",
      help: "Live leaves of a root, of all replicas; about, since they are counted by the hour",
      ...{ labelNames, registers },
    },
    (gauge) => {
      for (const { id, status, leaves } of roots()) gauge.set({ id, status }, leaves);
    },
  );
  addGauge(
    {
      name: "meshca_leaves_until_timestamp_seconds",
      help: "When the last live leaf of a root has expired, in seconds since 1970",
      ...{ labelNames, registers },
    },
    (gauge) => {
      for (const { id, status, until } of roots())
        gauge.set({ id, status }, until.getTime() / 1000);
    },
  );
  addGauge(
    {
      name: "meshca_leaves_overdue",
      help: "Live leaves that outlive their root",
      registers,
    },
    (gauge) => gauge.set(roots().reduce((sum, { overdue }) => sum + overdue, 0)),
  );
  addGauge(
    {
      name: "meshca_leaves_lower_bound",
      help: "1 while leaves may be live that are not counted",
      registers,
    },
    (gauge) => {
      const found = summary();
      if (found !== null) gauge.set(Number(found.isLowerBound));
    },
  );
}
