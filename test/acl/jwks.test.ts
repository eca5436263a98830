/**
 * Key sets by URL: which hosts a server may connect to (server-side request forgery,
 * CWE-918).
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { KeySets, type KeySource } from "../../src/acl/jwks.ts";
import { ProviderError, RequestError } from "../../src/core/errors.ts";
import type { GuardedFetchOptions, PinnedFetch } from "../../src/net/guarded-fetch.ts";
import { createFakeClock, passing } from "../fakes/clock.ts";

const SET = { keys: [{ kty: "EC", kid: "a" }] };
const URL_OK = "https://issuer.example/keys";

function keySets(
  options: Partial<GuardedFetchOptions> & { answer?: () => Response | Promise<Response> } = {},
) {
  const clock = createFakeClock();
  const asked: { url: string; init: Parameters<PinnedFetch>[1] }[] = [];
  const sets = new KeySets({
    fetch: async (url, init) => {
      asked.push({ url, init });
      return options.answer?.() ?? Response.json(SET);
    },
    resolve: async () => ["93.184.216.34"],
    hosts: ["issuer.example", "issuer.example:8443", "10.0.0.1", "[fd00::1]", "2130706433"],
    privateHosts: ["inside.example"],
    clock,
    ...options,
  });
  return { sets, clock, asked };
}

/** A key set at a URL. */
const at = (url: string): KeySource => ({ url, discovery: false, ca: null });

const failsWith =
  (type: typeof ProviderError | typeof RequestError, expected: RegExp) => (error: unknown) => {
    assert.ok(error instanceof type, String(error));
    assert.match(error.message, expected);
    return true;
  };

describe("new KeySets()", () => {
  const refused: readonly [what: string, url: string, expected: RegExp][] = [
    ["plain HTTP", "http://issuer.example/keys", /must be an https URL/],
    ["a file", "file:///etc/passwd", /must be an https URL/],
    ["no URL", "issuer.example", /must be an https URL/],
    ["a host that is not listed", "https://other.example/", /"other\.example" is not among/],
    ["a host that ends like a listed one", "https://evil-issuer.example/", /is not among/],
    ["a listed host as a user", "https://issuer.example@evil.example/", /must not have a user/],
    [
      "a port that is not listed",
      "https://issuer.example:444/",
      /"issuer\.example:444" is not among/,
    ],
    ["a password", "https://a:b@issuer.example/", /must not have a user or password/],
    ["a fragment", "https://issuer.example/#x", /must not have a fragment/],
    ["loopback by number", "https://127.0.0.1/", /is not among/],
    ["the metadata service", "https://169.254.169.254/latest", /is not among/],
  ];
  const issuer = "https://issuer.example";
  const found = (configuration: unknown) => {
    const answers = [configuration, SET];
    return keySets({ answer: () => Response.json(answers.shift()) });
  };

  it("get() fetches the keys from the URL in the issuer's configuration", async () => {
    const { sets, asked } = found({ issuer, jwks_uri: URL_OK });
    assert.deepEqual(await sets.get({ url: issuer, discovery: true, ca: null }, false), SET);
    assert.deepEqual(
      asked.map(({ url }) => url),
      [`${issuer}/.well-known/openid-configuration`, URL_OK],
    );
  });

  const configurations: readonly (readonly [
    what: string,
    configuration: unknown,
    expected: RegExp,
  ])[] = [
    [
      "names another issuer",
      { issuer: "https://other.example", jwks_uri: URL_OK },
      /the issuer names an issuer other than OIDCDiscoveryURL/,
    ],
    [
      "names the issuer in another spelling",
      { issuer: `${issuer}/`, jwks_uri: URL_OK },
      /the issuer names an issuer other than OIDCDiscoveryURL/,
    ],
    ["names no keys", { issuer }, /did not respond with a configuration of an OpenID provider/],
    [
      "leads to a host that is not listed",
      { issuer, jwks_uri: "https://other.example/keys" },
      /has an unusable URL: .*is not among/,
    ],
    [
      "leads to plain HTTP",
      { issuer, jwks_uri: "http://issuer.example/keys" },
      /has an unusable URL: .*must be an https URL/,
    ],
  ];
  for (const [what, configuration, expected] of configurations)
    it(`get() takes no keys of an issuer whose configuration ${what}, and requests none`, async () => {
      const { sets, asked } = found(configuration);
      await assert.rejects(
        sets.get({ url: issuer, discovery: true, ca: null }, false),
        failsWith(ProviderError, expected),
      );
      assert.equal(asked.length, 1);
    });

  for (const [what, url, expected] of refused)
    it(`get() refuses ${what}, and sends no request`, async () => {
      const { sets, asked } = keySets();
      assert.throws(() => sets.check(at(url)), failsWith(RequestError, expected));
      await assert.rejects(sets.get(at(url), false), failsWith(RequestError, expected));
      assert.equal(asked.length, 0);
    });

  for (const [what, url, addresses] of [
    ["a listed name that leads to loopback", URL_OK, ["127.0.0.1"]],
    ["a listed name of which one address is private", URL_OK, ["93.184.216.34", "10.0.0.7"]],
    ["a listed name that leads to an IPv4 inside IPv6", URL_OK, ["::ffff:127.0.0.1"]],
    ["a listed name with an address of one number", URL_OK, ["2130706433"]],
    ["a listed name with an address of two parts", URL_OK, ["127.1"]],
    ["a listed name with an address in hexadecimal", URL_OK, ["0x7f.1"]],
    ["a listed name with an address in octal", URL_OK, ["0177.0.0.1"]],
    ["a listed name with an address that has a zone", URL_OK, ["2606:2800:220:1::1%eth0"]],
    ["a listed address that is private", "https://10.0.0.1/", []],
    ["a listed IPv6 address that is private", "https://[fd00::1]/", []],
  ] as const)
    it(`get() refuses ${what}, and opens no connection`, async () => {
      const { sets, asked } = keySets({ resolve: async () => addresses });
      await assert.rejects(
        sets.get(at(url), false),
        failsWith(ProviderError, /an address that is not public/),
      );
      assert.equal(asked.length, 0);
    });

  it("check() reads a loopback address in decimal as a loopback address", () => {
    assert.throws(
      () => keySets().sets.check(at("https://2130706433/")),
      failsWith(RequestError, /"127\.0\.0\.1" is not among/),
    );
  });

  it("get() connects to a host that is listed as private at the checked addresses", async () => {
    const { sets, asked } = keySets({ resolve: async () => ["10.0.0.7"] });
    assert.deepEqual(await sets.get(at("https://inside.example/keys"), false), SET);
    assert.deepEqual(asked[0]?.init.addresses, ["10.0.0.7"]);
    assert.equal(asked[0]?.init.redirect, "manual");
  });

  const answers: readonly [what: string, answer: () => Response, expected: RegExp][] = [
    [
      "a redirect",
      () => new Response(null, { status: 302, headers: { Location: "http://169.254.169.254/" } }),
      /responded with status 302/,
    ],
    ["an error", () => new Response("secret inside", { status: 500 }), /responded with status 500/],
    ["a page", () => new Response("<html>"), /did not respond with JSON/],
    ["JSON of another kind", () => Response.json({ keys: "x" }), /did not respond with a key set/],
    ["too much", () => new Response("x".repeat(300_000)), /sent a response that is too long/],
    ["what is no UTF-8", () => new Response(new Uint8Array([0xff])), /did not respond in UTF-8/],
  ];
  for (const [what, answer, expected] of answers)
    it(`get() refuses ${what}, and repeats none of it`, async () => {
      const { sets } = keySets({ answer });
      await assert.rejects(
        sets.get(at(URL_OK), false),
        (error) => failsWith(ProviderError, expected)(error) && !String(error).includes("secret"),
      );
    });

  it("get() aborts if the host does not respond in time", async () => {
    const { sets, clock } = keySets({ answer: () => new Promise<Response>(() => undefined) });
    await assert.rejects(
      passing(clock, sets.get(at(URL_OK), false)),
      failsWith(ProviderError, /did not respond in time/),
    );
  });

  it("get() fetches once for concurrent callers, and again when the keys are stale", async () => {
    const { sets, clock, asked } = keySets();
    await Promise.all([sets.get(at(URL_OK), false), sets.get(at(URL_OK), false)]);
    await sets.get(at(URL_OK), false);
    assert.equal(asked.length, 1);
    clock.advance(300_000);
    await sets.get(at(URL_OK), false);
    assert.equal(asked.length, 2);
  });

  it("get() fetches again for a missing key, at most twice a minute", async () => {
    const { sets, clock, asked } = keySets();
    await sets.get(at(URL_OK), false);
    for (let i = 0; i < 5; i++) await sets.get(at(URL_OK), true);
    assert.equal(asked.length, 1);
    clock.advance(30_000);
    for (let i = 0; i < 5; i++) await sets.get(at(URL_OK), true);
    assert.equal(asked.length, 2);
  });

  it("get() returns the last keys for an hour while the issuer is unavailable", async () => {
    let up = true;
    const { sets, clock } = keySets({
      answer: () => (up ? Response.json(SET) : new Response(null, { status: 503 })),
    });
    await sets.get(at(URL_OK), false);
    up = false;
    clock.advance(3_599_000);
    assert.deepEqual(await sets.get(at(URL_OK), false), SET);
    clock.advance(2_000);
    await assert.rejects(
      sets.get(at(URL_OK), false),
      failsWith(ProviderError, /responded with status 503/),
    );
  });
});
