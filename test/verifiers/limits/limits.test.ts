/**
 * Every row of the table of verifiers against the library itself, in real handshakes as a client and as
 * a server: its limits are found by growing chains until it refuses them, and chains with one oddity each
 * are refused exactly if the rules say so.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { pemOf } from "../../../src/core/x509/certificate.ts";
import { VERIFIERS, verifierOf } from "../../../src/core/x509/verifier-table.ts";
import {
  maxCrossings,
  messageBytes,
  type Verifier,
  verifierFaults,
} from "../../../src/core/x509/verifiers.ts";
import type { Role } from "../peers.ts";
import type { ByLines } from "./by-lines.ts";
import { CROSSINGS, Material, ODDITIES, type Presented, TRUSTS, type Trust } from "./material.ts";
import { proxyFolder } from "./proxies.ts";
import { SUBJECTS, type Subject, startPresenter } from "./subjects.ts";

const OPTIONS = { timeout: 300_000 };
const ROLES = ["client", "server"] as const;

/** How each refuses a chain that is too long. The proxies log a reason, or none. */
const TOO_LONG: readonly (readonly [name: RegExp, reason: RegExp])[] = [
  [/^(openssl|python)/, /certificate chain too long/],
  [/^nginx/, /\(20:unable to get local issuer certificate\)/],
  [/^go$/, /signature check attempts limit reached/],
  [/^jdk/, /certificate chain length \(\d+\) exceeds the maximum allowed length/],
  [/^rustls$/, /MaximumPathDepthExceeded/],
  [/^mbedtls$/, /the chain is too long/],
  [/^gnutls$/, /Error in the certificate\./],
  [/^nss$/, /SEC_ERROR_UNKNOWN_ISSUER/],
  [/^(envoy|haproxy)$/, /^503 |unknown certificate authority|broken pipe|connection reset/],
];

/** Octets by which the certificates of a chain may be fewer than its row says: headers of messages and records. */
const HEADERS = 192;
/** With GnuTLS the other messages of the handshake count, too. */
const OTHER_MESSAGES = 1_500;

/** Octets by which the padding of each of four certificates grows. */
const STEP = 16;
/** Above the octets that any of them accepts. */
const MOST_BYTES = 300_000;

describe("the table of verifiers", () => {
  let folder: string;
  let material: Material;
  let presenter: ByLines;
  const odd = new Map<string, Presented>();

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-limits-"));
    material = await Material.make(folder);
    for (const [name, make] of Object.entries(ODDITIES)) odd.set(name, await make(material));
    presenter = await startPresenter();
  }, OPTIONS);
  after(async () => {
    await presenter?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it("has no row that no verifier is held to", () => {
    const held = new Set(SUBJECTS.flatMap(({ rows }) => Object.values(rows)));
    // Of the JDKs, those that are installed: Debian has one of them.
    const jdks = ["jdk", "jdk-17"];
    const rows = VERIFIERS.map(({ name }) => name);
    assert.deepEqual(
      rows.filter((name) => !held.has(name) && !jdks.includes(name)),
      [],
    );
    assert.ok(jdks.some((name) => held.has(name)));
  });

  for (const { name, rows, missing, start } of SUBJECTS)
    describe(name, { skip: missing }, () => {
      const subjects = new Map<Trust, Subject>();
      const rowOf = (role: Role): Verifier => verifierOf(rows[role]) ?? assert.fail(rows[role]);
      const ask = (role: Role, presented: Presented) =>
        (subjects.get(presented.trust) ?? assert.fail()).verify(role, presented);
      const expected = (role: Role, { trust, path, sent }: Presented) =>
        verifierFaults(
          { ...rowOf(role), roles: [role] },
          { path, sent, roots: material.roots(trust) },
        );

      before(async () => {
        const own = await material.rotated("oldest", 0);
        for (const trust of TRUSTS)
          subjects.set(
            trust,
            await start({
              ...{ folder: proxyFolder(folder, `${name}-${trust}`), presenter },
              ...{ chain: own.chain, key: own.key, upstream: presenter.port },
              roots: material.write(material.roots(trust).map(pemOf).join("")),
            }),
          );
      }, OPTIONS);
      after(async () => {
        for (const subject of subjects.values()) await subject.stop();
      });

      /** The largest number that it accepts, up to a bound, and why it refuses the next one. */
      async function limitOf(
        role: Role,
        make: (size: number) => Promise<Presented>,
        bound: number,
      ): Promise<{ most: number; reason: string | null }> {
        let [most, tooMuch, reason] = [0, 1, null as string | null];
        for (; ; tooMuch = Math.min(2 * tooMuch, bound)) {
          reason = await ask(role, await make(tooMuch));
          if (reason !== null) break;
          most = tooMuch;
          if (most === bound) return { most, reason };
        }
        while (tooMuch - most > 1) {
          const size = Math.floor((most + tooMuch) / 2);
          const refused = await ask(role, await make(size));
          if (refused === null) most = size;
          else [tooMuch, reason] = [size, refused];
        }
        return { most, reason };
      }

      for (const role of ROLES) {
        const tooLong = TOO_LONG.find(([pattern]) => pattern.test(name))?.[1] ?? /./;

        it(`accepts as many crossings as its row says, as a ${role}`, OPTIONS, async () => {
          const { most, reason } = await limitOf(
            role,
            (crossings) => material.rotated("oldest", crossings),
            CROSSINGS,
          );
          assert.equal(most, maxCrossings(rowOf(role)) ?? CROSSINGS, String(reason));
          assert.match(reason ?? "", tooLong);
        });

        it(
          `accepts as many certificates as its row says if it trusts all roots, as a ${role}`,
          OPTIONS,
          async () => {
            const { maxSent, maxBytes } = rowOf(role);
            const { most, reason } = await limitOf(
              role,
              (crossings) => material.rotated("all", crossings),
              CROSSINGS,
            );
            const { sent } = await material.rotated("all", Math.min(most + 1, CROSSINGS));
            if (maxSent === null && messageBytes(sent) > maxBytes) return;
            assert.equal(most, maxSent === null ? CROSSINGS : maxSent - 1, String(reason));
            if (maxSent !== null) assert.match(reason ?? "", tooLong);
          },
        );

        // A chain of four certificates is beyond nginx's default depth.
        if (name !== "nginx")
          it(`accepts as many octets as its row says, as a ${role}`, OPTIONS, async () => {
            const { most, reason } = await limitOf(
              role,
              (steps) => material.large(steps * STEP),
              MOST_BYTES / 4 / STEP,
            );
            assert.notEqual(reason, null);
            const { maxBytes } = rowOf(role);
            const bytes = messageBytes((await material.large(most * STEP)).sent);
            const less = name === "gnutls" ? OTHER_MESSAGES : HEADERS;
            assert.ok(
              bytes <= maxBytes + HEADERS && bytes >= maxBytes - less,
              `${bytes} octets are accepted, and the row has ${maxBytes}: ${reason}`,
            );
          });

        it(
          `refuses the oddities that its row refuses, and no other, as a ${role}`,
          OPTIONS,
          async () => {
            const wrong: string[] = [];
            for (const [oddity, presented] of odd) {
              const faults = expected(role, presented);
              const reason = await ask(role, presented);
              if ((reason !== null) !== faults.length > 0)
                wrong.push(`${oddity}: ${reason ?? "accepted"}; ${faults.join("; ")}`);
            }
            assert.equal(odd.size, Object.keys(ODDITIES).length);
            assert.deepEqual(wrong, []);
          },
        );
      }
    });
});
