/**
 * Guards of security: sockets of workloads, the SPIFFE Workload API and Envoy's SDS.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const WORKLOADS: readonly Mutant[] = [
  ...guardsOf("src/agent/workload-api/service.ts", [
    "the header against SSRF",
    'values.length === 1 && values[0] === "true"',
    "values.length < 9",
    "agent/workload-api",
  ]),
  ...guardsOf("src/agent/workload-state.ts", [
    "an expired SVID whose source was not told",
    "svid === null || svid.notAfter <= this.#clock.now()",
    "svid === null",
    "agent/workload-api",
  ]),
  ...guardsOf("src/agent/safe-path.ts", [
    "that the agent's group, which may write to a folder, has no other member",
    "gid !== group || hasOtherMembers(gid, user)",
    "gid !== group",
    "agent/folder-refusals",
  ]),
  ...guardsOf("src/agent/group-members.ts", [
    "members of a group in /etc/group",
    "return members.some((member)",
    "return members.every((member)",
    "agent/folder-refusals",
  ]),
  ...guardsOf(
    "src/agent/socket/unix-listener.ts",
    [
      "the umask of a socket",
      "process.umask(PRIVATE_UMASK)",
      "process.umask()",
      "agent/unix-socket",
    ],
    ["a path that is no socket", "if (!found.isSocket())", "if (false)", "agent/unix-socket"],
    [
      "a socket of another user",
      "if (user !== null && found.uid !== BigInt(user))",
      "if (user === -1)",
      "agent/unix-socket",
    ],
    [
      "a socket that is in use",
      'if (code !== "ECONNREFUSED")',
      'if (code === "never")',
      "agent/unix-socket",
    ],
    [
      "a file that has the name of the socket at its end",
      "if (found.ino === this.#file.ino && found.dev === this.#file.dev) removeFile(path);",
      "removeFile(path);",
      "agent/unix-socket",
    ],
  ),
  ...guardsOf(
    "src/agent/socket/folder.ts",
    [
      "a folder that others can write to",
      "const checked = await new FolderCheck(path, rules).run();",
      "const checked = await new FolderCheck(path, { ...rules, isShared: true }).run();",
      "agent/unix-socket",
    ],
    [
      "the place of a link to the folder",
      "await new FolderCheck(dirname(folder), rules).run();",
      "",
      "agent/unix-socket",
    ],
  ),
  ...guardsOf("src/agent/socket/endpoint.ts", [
    "an address that is not loopback",
    "if (!isLoopback(host))",
    "if (false)",
    "agent/unix-socket",
  ]),
  ...guardsOf("src/agent/workload-socket.ts", [
    "the bound of a request",
    '"grpc.max_receive_message_length": MAX_REQUEST_BYTES,',
    "",
    "agent/hostile-clients",
  ]),
  ...guardsOf("src/agent/latest-stream.ts", [
    "one message on its way",
    "if (!this.#dirty || this.#writing || this.#ended) return;",
    "if (!this.#dirty || this.#ended) return;",
    "agent/hostile-clients",
  ]),
  ...guardsOf("src/agent/admission.ts", [
    "the bound of streams",
    "if (this.#open >= this.#max) return null;",
    "",
    "agent/many-streams",
  ]),
  ...guardsOf("src/agent/sds/rest.ts", [
    "the type of a body",
    "if (!/^application\\/json *(;|$)/i.test(type))",
    "if (false)",
    "agent/sds-rest",
  ]),
  ...guardsOf("src/agent/line-limit.ts", [
    "lines that clients can cause",
    "now - last.at < EVERY_MS",
    "now < last.at",
    "agent/sds",
  ]),
];
