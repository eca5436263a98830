/**
 * Settings of the primary that change while a secondary waits for changes of the roots, as after
 * SIGHUP: it asks the servers that they name now, at once, and reports no fault of the earlier ones.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NodeTransport } from "../../src/client/node/transport.ts";
import { LiveDatacenterSettings } from "../../src/compose/datacenter-settings.ts";
import { PrimaryServers } from "../../src/compose/primary.ts";
import { createTestCa, silentLog } from "../fakes/ca.ts";
import { createFakeClock, systemRandom } from "../fakes/clock.ts";
import { guarded } from "../fixtures/guarded.ts";
import { until } from "../redis/server.ts";
import { served } from "./hostile.ts";
import { pair } from "./pair.ts";
import { Peer } from "./peer.ts";

describe("settings of the primary that change", () => {
  it("end the wait at the earlier servers, and the later ones are asked", async () => {
    const clock = createFakeClock(new Date());
    const one = await guarded(await createTestCa({ clock, hasDatacenters: true }));
    const earlier = await Peer.start(() => undefined);
    const later = await Peer.start(served(one));
    const settingsOf = (datacenter: string, { url }: Peer) => ({
      primary: {
        ...{ datacenter, servers: [url], caPem: null, caPin: null },
        ...{ token: null, tokenFile: null },
      },
      primaryDatacenter: datacenter,
      datacenters: new Map(),
    });
    const settings = new LiveDatacenterSettings(settingsOf("dc1", earlier));
    const primary = new PrimaryServers(settingsOf("dc1", earlier).primary, {
      ...{ settings, openTransport: () => new NodeTransport() },
      ...{ isVerifiedByPlatform: false, snapshot: () => null },
      ...{ clock, random: systemRandom, log: silentLog },
    });
    settings.subscribe(() => primary.useSettings());
    try {
      const listing = primary.roots(7);
      await until(() => earlier.received.length === 1);
      settings.replace(settingsOf("dc2", later));
      assert.equal((await listing).activeRootId, one.manager.require().active.id);
      assert.deepEqual(
        later.received.map(({ target }) => target),
        ["/v1/connect/ca/roots"],
      );
      assert.equal(primary.name, "dc2");
    } finally {
      primary.close();
      await earlier.stop();
      await later.stop();
      await one.manager.close();
    }
  });

  it("leave no contact with the primary that they name now", async () => {
    const { primary, two } = await pair();
    assert.notEqual(two.manager.status.primary?.lastContact, null);
    Object.assign(primary, { name: "dc9" });
    const { datacenter, lastContact, index } = two.manager.status.primary ?? {};
    assert.deepEqual([datacenter, lastContact, index], ["dc9", null, null]);
  });
});
