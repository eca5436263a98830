/**
 * The tree of commands. A new command is a file in commands/ and a line here.
 * @module
 */
import type { Group } from "./command.ts";
import { login, logout } from "./commands/acl/login.ts";
import { acl } from "./commands/acl.ts";
import { agent } from "./commands/agent-command.ts";
import { backup } from "./commands/backup.ts";
import { completion } from "./commands/completion.ts";
import { conflict } from "./commands/conflict.ts";
import { dropRoot } from "./commands/connect/drop-root.ts";
import { rollback } from "./commands/connect/rollback.ts";
import { roots } from "./commands/connect/roots.ts";
import { rotate } from "./commands/connect/rotate.ts";
import { renew, sign } from "./commands/connect/sign.ts";
import { connect } from "./commands/connect.ts";
import { datacenter } from "./commands/datacenter.ts";
import { deny } from "./commands/deny.ts";
import { doctor } from "./commands/doctor.ts";
import { healthcheck } from "./commands/healthcheck-command.ts";
import { inspect } from "./commands/inspect.ts";
import { kek } from "./commands/kek.ts";
import { recover } from "./commands/recover.ts";
import { serve } from "./commands/serve-command.ts";
import { status } from "./commands/status.ts";
import { tls } from "./commands/tls.ts";
import { verify } from "./commands/verify.ts";

export const PROGRAM: Group = {
  name: "meshca",
  summary: "the certificate authority of a service mesh, and the commands of its operator",
  commands: [
    // Processes.
    serve,
    agent,
    healthcheck,
    // The CA.
    status,
    doctor,
    roots,
    rotate,
    rollback,
    dropRoot,
    sign,
    renew,
    connect,
    // Access control.
    acl,
    login,
    logout,
    deny,
    kek,
    backup,
    conflict,
    recover,
    datacenter,
    // Files.
    tls,
    inspect,
    verify,
    // The shell.
    completion,
  ],
};
