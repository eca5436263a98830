/**
 * The image and compose.yaml in a real engine: leaves, an agent and two services on mutual TLS, a
 * replica that starts before Redis, one that is killed, Redis stopped, an upgrade of one replica at a
 * time, and the tests of the root in Vault. Runs by `npm run test:docker`.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { request } from "node:https";
import { after, before, describe, it } from "node:test";
import { opensslCsr } from "../fakes/ca.ts";
import { buildImage, Project } from "./compose.ts";
import { type Engine, NoEngine, startEngine } from "./engine.ts";
import { buildStandIns, type Images } from "./stand-ins.ts";

/** Building images and starting engines, on a loaded machine, in milliseconds. */
const SLOW = { timeout: 600_000 };
const IMAGE = `meshca-test:${process.pid}`;
/** Octets that the image may add to its base. */
const MAX_ADDED = 150_000_000;
/** Selected files of the Vault tests; `npm test` runs all of them on the same servers. */
const VAULT_TESTS =
  "test/vault/provider.test.ts test/vault/switches.test.ts test/vault/names.test.ts test/vault/odd-inputs.test.ts";

interface Peer {
  readonly id: string;
  readonly certificate: string;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Waits for a condition, with no bound but that of the test. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 250));
}

/** An engine, or why there is none. */
async function tryEngine(): Promise<Engine | NoEngine> {
  try {
    return await startEngine();
  } catch (error) {
    if (error instanceof NoEngine) return error;
    throw error;
  }
}

const found = await tryEngine();
const ci = process.env.CI === "true";
if (found instanceof NoEngine) {
  // What the kernel lacks cannot be installed. Everything else is a fault of the machine in CI.
  const accepted = found.missing.length > 0;
  it(`the image and compose.yaml are not tested: ${found.message}`, { skip: !ci }, () => {
    assert.ok(accepted, found.message);
  });
} else testWith(found);

function testWith(engine: Engine): void {
  describe("the image and compose.yaml", () => {
    let images: Partial<Images> = {};
    let project: Project;
    let token = "";
    let roots = "";

    before(async () => {
      if (engine.own || ci) images = await buildStandIns(engine.environment);
      await buildImage(IMAGE, "0.1.0", images, engine.environment);
      project = await Project.create(engine, images, IMAGE);
    }, SLOW);
    after(async () => {
      await project?.compose("--profile", "vault", "--profile", "openbao", "down", "--volumes");
      await project?.docker("image", "rm", "--force", IMAGE, `${IMAGE}-next`);
      if (engine.own) await project?.docker("image", "prune", "--force", "--filter", "until=72h");
      await engine.stop();
    }, SLOW);

    /** A call to a replica, whose certificate is verified by the roots once they are known. */
    const call = (n: number, method: string, path: string, body = ""): Promise<Answer> =>
      new Promise((resolve, reject) => {
        const trust =
          roots === ""
            ? { rejectUnauthorized: false }
            : { ca: roots, servername: `replica-${n}`, rejectUnauthorized: true };
        const outgoing = request(
          {
            ...{ host: "127.0.0.1", port: project.ports[n - 1], method, path, agent: false },
            ...trust,
            headers: { "X-Consul-Token": token, Host: `replica-${n}` },
          },
          async (response) => {
            let text = "";
            for await (const chunk of response) text += chunk;
            resolve({ status: response.statusCode ?? 0, text });
          },
        );
        outgoing.on("error", reject);
        outgoing.end(body);
      });
    const ready = async (n: number) =>
      (await call(n, "GET", "/readyz").catch(() => null))?.status === 200;
    const sign = async (n: number): Promise<Answer> => {
      const listing = JSON.parse((await call(n, "GET", "/v1/connect/ca/roots")).text) as {
        TrustDomain: string;
      };
      const { csr } = opensslCsr(`URI:spiffe://${listing.TrustDomain}/ns/default/dc/dc1/svc/test`);
      return call(n, "PUT", "/v1/connect/ca/sign", csr);
    };
    const signed = async (n: number) => {
      const { status, text } = await sign(n);
      assert.equal(status, 200, text);
      return new X509Certificate((JSON.parse(text) as { CertPEM: string }).CertPEM);
    };
    const mesh = async () => {
      const answer = await fetch(`http://127.0.0.1:${project.webPort}/`).catch(() => null);
      if (answer?.ok !== true) return null;
      return (await answer.json()) as {
        called: Peer;
        answer: { caller: Peer; allowed: boolean };
      };
    };

    it(
      "the image is small, unprivileged, labelled, and has one runtime and no shell",
      SLOW,
      async () => {
        const field = async (image: string, template: string) =>
          (await project.docker("image", "inspect", "--format", template, image)).trim();
        const base = images.BASE ?? "gcr.io/distroless/base-nossl-debian12:nonroot";
        const added =
          Number(await field(IMAGE, "{{.Size}}")) - Number(await field(base, "{{.Size}}"));
        assert.ok(added < MAX_ADDED, `${added} octets above ${base}`);
        assert.equal(await field(IMAGE, "{{.Config.User}}"), "65532:65532");
        assert.match(await field(IMAGE, "{{json .Config.Healthcheck}}"), /"meshca","healthcheck"/);
        const labels = JSON.parse(await field(IMAGE, "{{json .Config.Labels}}")) as object;
        for (const name of ["title", "description", "licenses", "version", "revision"])
          assert.ok(`org.opencontainers.image.${name}` in labels, name);
        const inside = (code: string) =>
          project.docker(
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "bun",
            IMAGE,
            "-e",
            code,
          );
        const programs =
          'console.log(["bash","sh","node","deno","npm","apt-get"].map((name) => Bun.which(name)).join())';
        assert.equal((await inside(programs)).trim(), ",,,,,");
        const write =
          'try { require("fs").writeFileSync("/app/x", "") } catch (e) { console.log(e.code) }';
        assert.match((await inside(write)).trim(), /^(EACCES|EROFS)$/);
      },
    );

    for (const [settings, scheme] of [
      ["MESHCA_TLS=self", "https"],
      ["MESHCA_PLAIN_HTTP=behind-proxy", "http"],
    ] as const)
      it(
        `serves ${scheme} by ${settings} on a read-only file system, and is healthy`,
        SLOW,
        async () => {
          const id = (
            await project.docker(
              ...[
                "run",
                "--detach",
                "--rm",
                "--read-only",
                "--cap-drop",
                "ALL",
                "--network",
                "none",
              ],
              ...["--security-opt", "no-new-privileges", "--health-interval", "1s"],
              ...["--env", settings, IMAGE],
            )
          ).trim();
          try {
            const state = () =>
              project.docker("inspect", "--format", "{{.State.Health.Status}}", id);
            await until(async () => (await state()).trim() === "healthy");
            await until(async () => (await project.docker("logs", id)).includes('"Ready"'));
            assert.ok(
              (await project.docker("logs", id)).includes(`"url":"${scheme}://0.0.0.0:8500"`),
            );
            await project.docker("exec", id, "meshca", "healthcheck", "--ready");
          } finally {
            await project.docker("stop", id);
          }
        },
      );

    it("refuses to start without TLS and without a proxy, and says so", SLOW, async () => {
      await assert.rejects(
        project.docker("run", "--rm", "--network", "none", IMAGE),
        /MESHCA_LISTEN: cannot serve plain HTTP on "0\.0\.0\.0": set MESHCA_TLS_CERT_FILE/,
      );
    });

    it("no command of Compose needs a variable", SLOW, async () => {
      const { PATH, HOME, DOCKER_HOST } = project.env;
      const bare = { PATH, HOME, ...(DOCKER_HOST === undefined ? {} : { DOCKER_HOST }) };
      for (const args of [["ps"], ["config"], ["down"]]) await project.composeWith(bare, ...args);
      for (const profile of ["vault", "openbao"])
        await project.composeWith(bare, "--profile", profile, "ps");
    });

    it(
      "a replica that starts before Redis waits for it, not ready, and is not restarted",
      SLOW,
      async () => {
        await project.compose("run", "--rm", "secrets");
        await project.compose("up", "--detach", "--no-deps", "replica-1");
        token = (
          await project.compose("run", "--rm", "secrets", "show", "management-token")
        ).trim();
        await until(
          async () => (await call(1, "GET", "/readyz").catch(() => null))?.status === 503,
        );
        await until(
          async () =>
            (await project.inspect("replica-1", "{{.State.Health.Status}}")) === "healthy",
        );
        assert.match(
          await project.compose("logs", "replica-1"),
          /Waiting for the store: only \/healthz is served until it answers/,
        );
        assert.equal(await project.inspect("replica-1", "{{.RestartCount}}"), "0");
      },
    );

    it(
      "everything starts, each replica by its own name, and leaves are signed by each",
      SLOW,
      async () => {
        await project.compose("up", "--detach");
        for (const n of [1, 2, 3]) await until(() => ready(n));
        assert.equal(await project.inspect("replica-1", "{{.RestartCount}}"), "0");
        roots = (await call(1, "GET", "/v1/connect/ca/roots?pem=true")).text;
        const names = ["replica-1:8500", "replica-2:8500", "replica-3:8500"];
        for (const n of [1, 2, 3]) {
          await until(
            async () => (await call(n, "GET", "/v1/status/peers")).text === JSON.stringify(names),
          );
          assert.ok(names.includes(JSON.parse((await call(n, "GET", "/v1/status/leader")).text)));
          assert.ok((await signed(n)).checkIssued(new X509Certificate(roots)));
        }
      },
    );

    it("Redis refuses callers without the password", SLOW, async () => {
      const ping = await project.compose("exec", "-T", "redis", "redis-cli", "ping");
      assert.match(ping, /NOAUTH/);
    });

    it("two services identify each other over mutual TLS, through a rotation", SLOW, async () => {
      await until(async () => (await mesh()) !== null);
      const first = await mesh();
      assert.match(first?.called.id ?? "", /^spiffe:\/\/[^/]+\/ns\/default\/dc\/dc1\/svc\/api$/);
      assert.match(
        first?.answer.caller.id ?? "",
        /^spiffe:\/\/[^/]+\/ns\/default\/dc\/dc1\/svc\/web$/,
      );
      assert.equal(first?.answer.allowed, true);
      const rotated = await call(2, "PUT", "/v1/connect/ca/rotate");
      assert.equal(rotated.status, 200, rotated.text);
      // Leaves are renewed over hours; the agent writes the new root at once.
      const count =
        'console.log(require("fs").readFileSync("/run/meshca/api/ca.crt", "utf8").split("BEGIN").length - 1)';
      await until(
        async () => (await project.compose("exec", "-T", "api", "bun", "-e", count)).trim() === "2",
      );
      assert.notEqual(await mesh(), null);
      roots = (await call(1, "GET", "/v1/connect/ca/roots?pem=true")).text;
    });

    it("a replica that is killed is started again; the others sign until then", SLOW, async () => {
      process.kill(Number(await project.inspect("replica-1", "{{.State.Pid}}")), "SIGKILL");
      for (const n of [2, 3]) await signed(n);
      assert.notEqual(await mesh(), null);
      await until(async () => (await project.inspect("replica-1", "{{.RestartCount}}")) === "1");
      await until(() => ready(1));
      await signed(1);
    });

    it(
      "leaves are signed while Redis is stopped; a replica that restarts then serves the roots and waits",
      SLOW,
      async () => {
        await project.compose("stop", "redis");
        for (const n of [1, 2, 3]) await signed(n);
        assert.equal((await call(1, "PUT", "/v1/connect/ca/rotate")).status, 503);
        await project.compose("restart", "replica-3");
        await until(async () => {
          const listing = await call(3, "GET", "/v1/connect/ca/roots").catch(() => null);
          return listing?.status === 200;
        });
        // Without its store it cannot check a token.
        assert.equal((await call(3, "GET", "/readyz")).status, 503);
        assert.notEqual(await mesh(), null);
        await project.compose("start", "redis");
        await until(async () => (await call(3, "PUT", "/v1/connect/ca/rotate")).status === 200);
        for (const n of [1, 2, 3]) await until(() => ready(n));
        for (const n of [2, 3])
          assert.equal(await project.inspect(`replica-${n}`, "{{.RestartCount}}"), "0");
        roots = (await call(1, "GET", "/v1/connect/ca/roots?pem=true")).text;
      },
    );

    it(
      "an upgrade of one replica at a time loses no request of a client with several servers",
      SLOW,
      async () => {
        const next = `${IMAGE}-next`;
        await buildImage(next, "0.1.1", images, project.env);
        const upgraded = { ...project.env, MESHCA_IMAGE: next };
        let over = false;
        let served = 0;
        const failures: string[] = [];
        const client = async () => {
          while (!over) {
            const answers: (Answer | string)[] = [];
            for (const n of [1, 2, 3]) {
              answers.push(await sign(n).catch((error: unknown) => String(error)));
              const last = answers.at(-1);
              if (typeof last === "object" && last.status === 200) break;
            }
            const last = answers.at(-1);
            if (typeof last === "object" && last.status === 200) served++;
            else failures.push(JSON.stringify(answers));
            if ((await mesh()) === null) failures.push("the services");
          }
        };
        const running = client();
        try {
          for (const n of [1, 2, 3]) {
            const name = `replica-${n}`;
            await project.composeWith(upgraded, "up", "--detach", "--no-deps", name);
            await until(() => ready(n));
            assert.equal(
              await project.inspect(
                name,
                '{{index .Config.Labels "org.opencontainers.image.version"}}',
              ),
              "0.1.1",
            );
          }
        } finally {
          over = true;
          await running;
        }
        assert.deepEqual(failures, []);
        assert.ok(served > 0);
        await project.compose("down", "--volumes");
      },
    );

    for (const kind of ["openbao", "vault"] as const)
      it(
        `the tests of the root in Vault pass by the command of the file, on ${kind}, also on a used server`,
        SLOW,
        async () => {
          for (const files of [VAULT_TESTS, "test/vault/provider.test.ts"]) {
            const printed = await project.suite(kind, `${kind}-tests`, files);
            assert.match(printed, /^ *[1-9]\d* pass$/m, printed.slice(-8000));
            assert.match(printed, /^ *0 fail$/m, printed.slice(-8000));
          }
          await project.compose("--profile", kind, "stop", kind);
        },
      );
  });
}
