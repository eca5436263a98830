/**
 * Access control in a SQLite file that was changed while no server ran.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { describe, it } from "node:test";
import { makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";

const MANAGEMENT = "11111111-2222-4333-8444-555555555555";

describe("a SQLite file with another access control than was written", () => {
  it("is refused: a token that was put back is unknown, and an operator decides", async () => {
    const dataDir = makeDataDir();
    const start = () =>
      startServer({
        MESHCA_DATA_DIR: dataDir,
        MESHCA_ACL: "deny",
        MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT,
      });
    const call = async (
      { url }: ServerProcess,
      method: string,
      path: string,
      secret: string,
      body: object | null = null,
    ) => {
      const sent = body === null ? {} : { body: JSON.stringify(body) };
      const answer = await fetch(`${url}${path}`, {
        method,
        headers: { "X-Consul-Token": secret },
        ...sent,
      });
      return { status: answer.status, text: await answer.text() };
    };
    const change = (work: (db: DatabaseSync) => void) => {
      const db = new DatabaseSync(`${dataDir}/meshca.db`);
      work(db);
      db.close();
    };
    try {
      const first = await start();
      const { AccessorID, SecretID } = JSON.parse(
        (await call(first, "PUT", "/v1/acl/token", MANAGEMENT, {})).text,
      ) as Record<string, string>;
      assert.equal((await call(first, "GET", "/v1/acl/token/self", SecretID ?? "")).status, 200);
      await first.stop();
      change((db) =>
        db.exec("CREATE TABLE put_aside AS SELECT * FROM access_record WHERE kind = 'token'"),
      );
      const second = await start();
      assert.equal(
        (await call(second, "DELETE", `/v1/acl/token/${AccessorID}`, MANAGEMENT)).status,
        200,
      );
      await second.stop();
      change((db) =>
        db.exec(
          "INSERT OR IGNORE INTO access_record SELECT * FROM put_aside; DROP TABLE put_aside;",
        ),
      );
      const third = await start();
      assert.equal((await call(third, "GET", "/v1/acl/token/self", SecretID ?? "")).status, 503);
      const ready = await call(third, "GET", "/readyz", "");
      assert.equal(ready.status, 503);
      assert.match(
        ready.text,
        /access control cannot be loaded: the MAC over all records is invalid/,
      );
      assert.equal(
        (await call(third, "PUT", "/v1/acl/state-conflict", MANAGEMENT, { Keep: "stored" })).status,
        200,
      );
      // Its tombstone is stored: it does not come back.
      assert.equal((await call(third, "GET", "/v1/acl/token/self", SecretID ?? "")).status, 403);
      assert.equal((await call(third, "GET", "/v1/acl/token/self", MANAGEMENT)).status, 200);
      await third.stop();
    } finally {
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});
