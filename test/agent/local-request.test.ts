/**
 * Which requests the agent refuses because a program of this machine would not send them.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { localRefusal } from "../../src/agent/local-request.ts";

const request = (headers: Readonly<Record<string, string>>) => ({ headers: new Headers(headers) });

describe("requests that the agent's listener answers", () => {
  for (const host of [
    "127.0.0.1:8502",
    "127.0.0.1",
    "127.1.2.3:80",
    "localhost:8502",
    "LOCALHOST",
    "web.localhost",
    "[::1]:8502",
  ])
    it(`Host ${host}`, () => {
      assert.equal(localRefusal(request({ Host: host }), false), null);
    });

  it("no Host, as HTTP/1.0 allows", () => {
    assert.equal(localRefusal(request({}), false), null);
  });

  it("any Host over a Unix socket", () => {
    assert.equal(localRefusal(request({ Host: "agent.example" }), true), null);
  });

  it("a page that a user asked for by its address", () => {
    const headers = { Host: "localhost", "Sec-Fetch-Site": "none" };
    assert.equal(localRefusal(request(headers), false), null);
  });
});

describe("requests that the agent's listener refuses", () => {
  for (const host of [
    "agent.example",
    "127.0.0.1.agent.example",
    "localhost.agent.example",
    "10.0.0.1:8502",
    "0.0.0.0:8502",
    "2130706433",
    "127.1",
    "[::]:8502",
    "[::ffff:10.0.0.1]",
    "",
  ])
    it(`Host ${JSON.stringify(host)} (DNS rebinding)`, () => {
      assert.match(localRefusal(request({ Host: host }), false) ?? "", /^Host is not a loopback/);
    });

  for (const overSocket of [false, true]) {
    const where = overSocket ? "over a Unix socket" : "over TCP";
    for (const origin of ["https://site.example", "http://127.0.0.1:8502", "null", ""])
      it(`Origin ${JSON.stringify(origin)} ${where}`, () => {
        const headers = { Host: "127.0.0.1", Origin: origin };
        assert.match(localRefusal(request(headers), overSocket) ?? "", /^Request has an Origin/);
      });
    for (const site of ["cross-site", "same-site", "same-origin", "x"])
      it(`Sec-Fetch-Site: ${site} ${where}`, () => {
        const headers = { Host: "127.0.0.1", "Sec-Fetch-Site": site };
        assert.match(localRefusal(request(headers), overSocket) ?? "", /^Request comes from a web/);
      });
    for (const name of ["Forwarded", "Via", "X-Forwarded-For", "X-Real-IP", "X-Envoy-Peer"])
      it(`${name} ${where}`, () => {
        const headers = { Host: "127.0.0.1", [name]: "10.0.0.1" };
        assert.match(localRefusal(request(headers), overSocket) ?? "", /forwarded by a proxy/);
      });
  }
});
