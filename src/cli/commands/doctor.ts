/**
 * The command `meshca doctor`: checks a deployment end to end, and says what to mend in the order of
 * urgency.
 * @module
 */
import { processClock } from "../../entry/system.ts";
import type { Call, Command } from "../command.ts";
import { readServerOptions } from "../connection/address.ts";
import { accessChecks } from "../doctor/access-checks.ts";
import { agentChecks, agentTarget } from "../doctor/agent-checks.ts";
import { caChecks } from "../doctor/ca-checks.ts";
import { contactChecks } from "../doctor/contact-checks.ts";
import { datacenterChecks } from "../doctor/datacenter-checks.ts";
import { clientFiles, serverFiles } from "../doctor/file-checks.ts";
import { lookAt } from "../doctor/look.ts";
import { providerChecks } from "../doctor/provider-checks.ts";
import { storeChecks } from "../doctor/store-checks.ts";
import { reportText } from "../doctor/text.ts";
import { CHECK_IDS, type Report, type Result, SEVERITIES } from "../doctor/types.ts";
import { FILES } from "../files.ts";

/**
 * Exit codes as plug-ins of monitoring have them (Nagios Plugin API); those of sysexits.h, from 64 on,
 * are of a command that could not run.
 */
export const DOCTOR_EXITS = { ok: 0, note: 0, warning: 1, critical: 2, unchecked: 3 } as const;

export const doctor: Command = {
  name: "doctor",
  summary: "check a deployment, and say what to mend, the most urgent first",
  details:
    "Checks the server as this machine sees it, its store, its provider, its access control, its files and backups, as the server knows them, and the agents that --agent names. Exits with 0 if nothing is wrong, 1 with warnings, 2 if something is critical, 3 if nothing was found but something could not be checked. A token with operator:read is needed for most.",
  flags: [
    {
      ...{ name: "agent", value: "ADDRESS", many: true },
      help: "checks an agent too, by its --listen: HOST:PORT or unix:PATH; may be repeated",
    },
    { ...{ name: "all", value: null }, help: "also list the checks that found nothing" },
  ],
  example: "meshca doctor --token-file operator.token --agent 127.0.0.1:8502",
  ...{ connects: true, json: true },
  async run(call) {
    const { terminal, flags } = call;
    const report = await terminal.progress("Checking", diagnose(call));
    call.print(report, (value) => reportText(value, flags.on("all"), terminal));
    return report.exit;
  },
};

async function diagnose({ flags, environment, terminal }: Call): Promise<Report> {
  const options = readServerOptions(flags, environment, FILES);
  const targets = flags.all("agent").map(agentTarget);
  const facts = await lookAt(options, processClock, (line) => terminal.note(line));
  const agents = await Promise.all(targets.map(agentChecks));
  const made = [
    ...contactChecks(facts),
    ...caChecks(facts),
    ...datacenterChecks(facts),
    ...storeChecks(facts),
    ...providerChecks(facts),
    ...accessChecks(facts),
    serverFiles(facts),
    clientFiles(flags, environment),
    ...agents.flat(),
  ];
  const results = CHECK_IDS.flatMap((id) => made.filter((result) => result.id === id));
  const status = statusOf(results);
  return {
    server: options.name,
    time: facts.now.toISOString(),
    ...{ status, exit: DOCTOR_EXITS[status], results },
  };
}

function statusOf(results: readonly Result[]): Report["status"] {
  const has = (severity: string) =>
    results.some(({ findings }) => findings.some((finding) => finding.severity === severity));
  const [critical, warning, note] = SEVERITIES.map(has);
  if (critical) return "critical";
  if (warning) return "warning";
  if (results.some(({ outcome }) => outcome === "unchecked")) return "unchecked";
  return note ? "note" : "ok";
}
