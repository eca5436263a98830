/**
 * What a client sends costs time that grows no faster than its length: every reader of headers,
 * queries and bodies is fed 16 KiB of the characters that lists and parameters are separated by,
 * and its time is compared with that for 1 KiB.
 * @module
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { CONSUL_CONFIG_NAMES } from "../../providers/consul/config.ts";
import { readRules } from "../../src/acl/rules.ts";
import { readSelector, readTemplate } from "../../src/acl/selector.ts";
import { compose, type Meshca } from "../../src/compose/process.ts";
import { readSettings } from "../../src/config/settings.ts";
import { parseDuration } from "../../src/consul/duration.ts";
import { readJson } from "../../src/consul/go-json.ts";
import { fromBase64 } from "../../src/core/bytes.ts";
import { nearest } from "../../src/core/nearest.ts";
import { isOnePem, readPem } from "../../src/core/pem.ts";
import { splitSpiffeUri } from "../../src/core/spiffe/id.ts";
import { readCsr } from "../../src/core/x509/csr.ts";
import { createPlatform } from "../../src/entry/platform.ts";
import { clientKey, hostRefusal } from "../../src/http/client.ts";
import { parseQuery, queryOptions } from "../../src/http/query.ts";
import { bodyForm } from "../../src/http/request-body.ts";
import { bearerOf } from "../../src/http/request-token.ts";
import { takesGzip } from "../../src/http/responses.ts";
import { tableOf } from "../fixtures/tables.ts";

const [SMALL, LARGE] = [1024, 16 * 1024];
/**
 * Sixteen times the text may take so many times as long, and so many milliseconds that no machine
 * spends on 16 KiB in one pass. What grows with the square takes 256 times as long, and more than
 * 50 ms.
 */
const [MOST, GRACE_MS] = [48, 15];
/** A measurement that is too long may be the machine's: the shortest of so many counts. */
const TRIES = 5;

const FILLS = [
  " ",
  ",",
  ";",
  "\t",
  "=",
  ".",
  ":",
  "/",
  "0",
  "a",
  '"',
  "\\",
  "(",
  "[",
  "{",
  "-",
  "%",
  "1s",
  "%20",
  "a,",
  "a;",
  " ;",
  '" ',
  "\n",
  "$",
];
/** What lists and parameters are separated by, and what numbers are made of. */
const SEPARATORS = [" ", ",", ";", "\t", "a;", "0"];
const fill = (text: string, length: number): string =>
  text.repeat(Math.ceil(length / text.length)).slice(0, length);

/** A place for a text, in something that a reader takes. */
type Shape = (filled: string) => string;
const SHAPES: readonly Shape[] = [
  (text) => text,
  (text) => `a${text}`,
  (text) => `a${text}x`,
  (text) => `${text}x`,
];

/** The milliseconds that some work takes; what it throws is an answer as well. */
async function timed(work: () => unknown): Promise<number> {
  const started = performance.now();
  try {
    await work();
  } catch {}
  return performance.now() - started;
}

/** Compares the time for much text with that for little. */
async function requireLinear(
  what: string,
  work: (length: number) => unknown,
  large = LARGE,
): Promise<void> {
  let [least, small] = [Number.POSITIVE_INFINITY, 0];
  for (let tries = 0; tries < TRIES; tries++) {
    small = Math.max(small, await timed(() => work(large / (LARGE / SMALL))));
    least = Math.min(least, await timed(() => work(large)));
    if (least <= GRACE_MS + small * MOST) return;
  }
  assert.fail(
    `${what} took ${least.toFixed(1)} ms for ${large} characters, and ${small.toFixed(2)} ms for a sixteenth of them`,
  );
}

describe("a reader of what a client sends takes time that grows no faster than the text", () => {
  const known = new Map([["value.name", "text"]] as const);
  const READERS: readonly (readonly [
    name: string,
    read: (text: string) => unknown,
    shapes?: readonly Shape[],
  ])[] = [
    [
      "Accept-Encoding",
      takesGzip,
      [
        (text) => `gzip${text}`,
        (text) => `gzip;${text}x`,
        (text) => `gzip;q=${text}`,
        (text) => `${text}, gzip;q=0`,
      ],
    ],
    [
      "Host",
      (text) => hostRefusal(text, { hosts: ["a"], loopbackOnly: true }),
      [(text) => `a${text}`, (text) => `127.0.0.1:${text}x`],
    ],
    [
      "Authorization",
      bearerOf,
      [(text) => `Bearer ${text}`, (text) => `Bearer ${text}x\u2028`, (text) => `Bearer${text}x`],
    ],
    ["Content-Type", bodyForm],
    ["Cache-Control", (text) => queryOptions(new Map(), text), [(text) => `max-age=1${text}x`]],
    ["a query", parseQuery, [(text) => `a=${text}`, (text) => `${text}=x`]],
    [
      "index",
      (text) => queryOptions(new Map([["index", text]]), undefined),
      [(text) => `1${text}`],
    ],
    [
      "wait",
      (text) => queryOptions(new Map([["wait", text]]), undefined),
      [(text) => `1${text}`, (text) => `-${text}h`],
    ],
    ["a duration", parseDuration, [(text) => `1${text}`, (text) => `1.${text}h`]],
    [
      "JSON",
      readJson,
      [
        (text) => `{"a":"${text}"}`,
        (text) => `[${text}`,
        (text) => `{"a":1${text}}`,
        (text) => `-1${text}`,
        (text) => `"\\u00${text}`,
      ],
    ],
    [
      "a policy",
      readRules,
      [
        (text) => `service "${text}" { policy = "read" }`,
        (text) => `/*${text}`,
        (text) => `a = ${text}`,
        (text) => `{"service":${text}`,
      ],
    ],
    [
      "a selector",
      (text) => readSelector(text, known),
      [(text) => `value.name == "${text}`, (text) => `not${text}value.name`],
    ],
    ["a template", readTemplate, [(text) => `\${${text}`, (text) => `\${ a${text}`]],
    [
      "PEM",
      readPem,
      [
        (text) => `-----BEGIN A${text}`,
        (text) => `-----BEGIN A-----${text}x`,
        (text) => `-----BEGIN A-----\n${text}`,
        (text) => `-----BEGIN A-----\nAAAA\n-----END A-----${text}x`,
      ],
    ],
    [
      "one PEM block",
      isOnePem,
      [
        (text) => `${text}-----BEGIN A`,
        (text) => `-----BEGIN A${text}`,
        (text) => `-----BEGIN A-----${text}-----END A-----${text}x`,
      ],
    ],
    [
      "a request",
      readCsr,
      [
        (text) =>
          `-----BEGIN CERTIFICATE REQUEST-----\n${text}\n-----END CERTIFICATE REQUEST-----\n`,
      ],
    ],
    ["a SPIFFE ID", splitSpiffeUri, [(text) => `spiffe://${text}`, (text) => `spiffe://a/${text}`]],
    ["base64", fromBase64],
    ["a name with a near one", (text) => nearest(text, ["LeafCertTTL", "IntermediateCertTTL"])],
    ["an address", (text) => clientKey(text, true), [(text) => `::ffff:${text}`]],
  ];
  for (const [name, read, shapes = []] of READERS)
    it(`${name}: of blanks, commas, semicolons, tabs and other marks`, async () => {
      for (const [at, shape] of [...SHAPES, ...shapes].entries())
        for (const mark of FILLS)
          await requireLinear(`${name}, shape ${at}, of ${JSON.stringify(mark)},`, (length) =>
            read(shape(fill(mark, length))),
          );
    });
});

const TOKEN = "0123456789abcdef0123456789abcdef";

/** Names of headers and of parameters in a query that any route reads. */
const HEADERS = [
  "Accept",
  "Accept-Encoding",
  "Authorization",
  "Cache-Control",
  "Content-Length",
  "Content-Type",
  "Cookie",
  "Forwarded",
  "If-None-Match",
  "Transfer-Encoding",
  "Via",
  "X-Consul-Token",
  "X-Forwarded-For",
  "X-Request-Id",
];
const PARAMETERS = [
  "",
  "index",
  "wait",
  "dc",
  "datacenter",
  "pem",
  "token",
  "max_stale",
  "authmethod",
  "policy",
  "accessor",
];

const HEADED = new Set([
  "GET /v1/connect/ca/roots",
  "PUT /v1/connect/ca/configuration",
  "PUT /v1/connect/ca/sign",
  "PUT /v1/connect/ca/renew",
  "GET /readyz",
]);

/** Texts in the bodies of routes, by a part of the path. */
const BODIES: readonly (readonly [path: string, body: (text: string) => unknown])[] = [
  ["sign", (CSR) => ({ CSR })],
  ["renew", (CSR) => ({ CSR })],
  ["configuration", (LeafCertTTL) => ({ Provider: "consul", Config: { LeafCertTTL } })],
  [
    "configuration",
    (RootCert) => ({ Provider: "consul", Config: { RootCert, PrivateKey: RootCert } }),
  ],
  [
    "configuration",
    (Token) => ({ Provider: "vault", Config: { Address: Token, Token, RootPKIPath: Token } }),
  ],
  ["configuration", (Provider) => ({ Provider, Config: { [Provider]: 1 } })],
  ["deny", (SPIFFEID) => ({ SPIFFEID, Reason: SPIFFEID })],
  ["deny", (KeyID) => ({ KeyID })],
  ["deny", (Serial) => ({ Serial })],
  ["acl/policy", (Rules) => ({ Name: "a", Rules, Description: Rules })],
  ["acl/token", (ExpirationTTL) => ({ ExpirationTTL, Description: ExpirationTTL })],
  [
    "acl/token",
    (ServiceName) => ({ ServiceIdentities: [{ ServiceName }], Policies: [{ Name: ServiceName }] }),
  ],
  ["acl/login", (BearerToken) => ({ AuthMethod: BearerToken, BearerToken })],
  [
    "acl/auth-method",
    (MaxTokenTTL) => ({
      Name: MaxTokenTTL,
      Type: "jwt",
      MaxTokenTTL,
      Config: { BoundIssuer: MaxTokenTTL },
    }),
  ],
  [
    "acl/binding-rule",
    (Selector) => ({ AuthMethod: "a", Selector, BindName: Selector, BindType: Selector }),
  ],
];

describe("the server takes time that grows no faster than what a client sends", () => {
  let meshca: Meshca;
  let loops: Promise<void>;
  before(async () => {
    const environment = {
      MESHCA_STORE: "memory:",
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
      MESHCA_LOG_LEVEL: "error",
    };
    const settings = readSettings(environment, () => "", CONSUL_CONFIG_NAMES);
    meshca = await compose(settings, createPlatform(settings));
    await meshca.start();
    loops = meshca.run();
  });
  after(async () => {
    await meshca.close();
    await loops;
  });

  const ask = async (
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body?: string,
  ): Promise<string> => {
    const all = { Host: "127.0.0.1:8500", "X-Consul-Token": TOKEN, ...headers };
    const init = {
      method,
      headers: all,
      ...(method === "GET" || body === undefined ? {} : { body }),
    };
    const gone = new AbortController();
    const request = new Request(`http://127.0.0.1:8500${path}`, { ...init, signal: gone.signal });
    const answered = (async () =>
      (await meshca.fetch(request, { remoteAddress: "127.0.0.1" })).text())();
    // A query may block; it has been read by then.
    const stop = setTimeout(() => gone.abort(), 1);
    const text = await answered;
    clearTimeout(stop);
    return text;
  };
  const routes = tableOf("Routes").flatMap(([methods = "", path = ""]) =>
    methods.split(", ").map((method) => [method, path.replaceAll(/:\w+/g, "x")] as const),
  );

  for (const [method, path] of routes)
    it(`${method} ${path}: every header, parameter and body`, async () => {
      for (const mark of SEPARATORS) {
        const text = (length: number) => fill(mark, length);
        const what = (part: string) => `${method} ${path}: ${part} of ${JSON.stringify(mark)}`;
        // A header has no white space at its ends. Those of a whole kind of route are read in one
        // place.
        if (HEADED.has(`${method} ${path}`))
          for (const name of HEADERS)
            await requireLinear(what(name), (length) =>
              ask(
                method,
                path,
                { [name]: `a${text(length)}x` },
                method === "GET" ? undefined : "{}",
              ),
            );
        for (const name of PARAMETERS)
          await requireLinear(
            what(`?${name}`),
            (length) =>
              ask(method, `${path}?${name}${name === "" ? "" : "="}${text(length)}`, {}, "{}"),
            LARGE / 2.1,
          );
        if (method === "GET") continue;
        await requireLinear(what("body"), (length) => ask(method, path, {}, text(length)));
        for (const [part, body] of BODIES)
          if (path.includes(part))
            await requireLinear(what(`body of ${part}`), (length) =>
              ask(
                method,
                path,
                { "Content-Type": "application/json" },
                JSON.stringify(body(text(length))),
              ),
            );
      }
    });
});
