/**
 * The single binary: it needs no file, no program and no variable of the machine.
 * @module
 */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { buildBinary } from "../../build/binary.ts";
import { TestClient } from "../agent/grpc-client.ts";
import { inAgentFolder } from "../fixtures/agent.ts";
import { dataIn, describeInstalled, PATIENCE_MS } from "./contract.ts";
import { type Program, serve, start } from "./program.ts";

/** Of ELF's e_machine (System V ABI, chapter 4), and the name of the architecture in Node. */
const MACHINES = { x64: 62, arm64: 183 } as const;
type Name = keyof typeof MACHINES;
const NAMES = Object.keys(MACHINES) as Name[];
const LIMIT = 120_000_000;

const scratch = mkdtempSync(join(tmpdir(), "meshca-binary-"));
const home = join(scratch, "empty");
const built = new Map<Name, string>();
const program = (): Program => ({
  command: [join(home, "meshca")],
  cwd: home,
  environment: { PATH: "" },
});

before(
  async () => {
    for (const name of NAMES) built.set(name, await buildBinary(name, scratch));

    mkdirSync(home);
    const own = built.get(process.arch as Name);
    assert.ok(own !== undefined, `There is no binary for ${process.arch}`);
    copyFileSync(own, join(home, "meshca"));
  },
  { timeout: PATIENCE_MS },
);
after(() => rmSync(scratch, { recursive: true, force: true }));

describe("the binary", () => {
  for (const name of NAMES)
    it(`for ${name} is an executable of Linux of at most ${LIMIT} bytes`, () => {
      const file = built.get(name) ?? "";
      const header = readFileSync(file).subarray(0, 20);
      assert.equal(header.subarray(0, 4).toString("latin1"), "\x7fELF");
      assert.equal(header.readUInt16LE(18), MACHINES[name]);
      const { size, mode } = statSync(file);
      assert.ok(size <= LIMIT, `${size} bytes`);
      assert.equal(mode & 0o111, 0o111);
    });

  describeInstalled(program, true);

  it("serves the SPIFFE Workload API", { timeout: PATIENCE_MS }, () =>
    inAgentFolder(async (folder) => {
      const server = await serve(program(), dataIn(folder));
      const socket = join(folder, "s");
      const agent = start(
        program(),
        ["agent", "--server", server.url, "--service", "web", "--socket", socket],
        {},
      );
      try {
        await agent.logged(({ message }) => message === "Ready");
        const client = new TestClient(`unix:${socket}`);
        const { svids } = await client.svids().reader.next();
        assert.match(svids[0]?.spiffeId ?? "", /\/svc\/web$/);
        client.close();
      } finally {
        assert.equal((await agent.stop()).code, 0);
        assert.equal((await server.stop()).code, 0);
      }
    }),
  );

  it("leaves no file in its folder", () => {
    assert.deepEqual(readdirSync(home), ["meshca"]);
  });
});
