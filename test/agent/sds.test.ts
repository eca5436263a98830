/**
 * Envoy's SDS by gRPC on a real socket, by the rules of the xDS protocol.
 * @module
 */
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, it } from "node:test";
import { status } from "@grpc/grpc-js";
import { startEndpoint, until } from "./endpoint.ts";
import { type DiscoveryMessage, messageType } from "./grpc-client.ts";

const TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

interface DataSource {
  readonly inlineBytes: Buffer;
}
interface SecretMessage {
  readonly name: string;
  readonly type: string;
  readonly tlsCertificate: {
    readonly certificateChain: DataSource;
    readonly privateKey: DataSource;
  };
  readonly validationContext: {
    readonly trustedCa: DataSource | null;
    readonly customValidatorConfig: {
      readonly name: string;
      readonly typedConfig: { readonly type_url: string; readonly value: Buffer };
    } | null;
  };
}

/** The secrets of a response by their names. */
function secretsOf({ resources, typeUrl }: DiscoveryMessage): Map<string, SecretMessage> {
  assert.equal(typeUrl, TYPE);
  const type = messageType("envoy.extensions.transport_sockets.tls.v3.Secret");
  return new Map(
    resources.map(({ type_url: url, value }) => {
      assert.equal(url, TYPE);
      const secret = type.deserialize(value) as SecretMessage;
      return [secret.name, secret];
    }),
  );
}

/** Acknowledges a response. */
const ack = ({ versionInfo, nonce }: DiscoveryMessage, resourceNames: readonly string[]) => ({
  versionInfo,
  responseNonce: nonce,
  resourceNames,
  typeUrl: TYPE,
});

describe("StreamSecrets", () => {
  it("answers with the default identity in PEM", async () => {
    await using endpoint = await startEndpoint();
    const { stream, reader } = endpoint.client.secrets();
    stream.write({ resourceNames: ["default"], typeUrl: TYPE, node: { id: "envoy-1" } });
    const response = await reader.next();
    const secret = secretsOf(response).get("default");
    assert.ok(secret !== undefined);
    const { certificateChain, privateKey } = secret.tlsCertificate;
    const leaf = new X509Certificate(certificateChain.inlineBytes);
    assert.equal(leaf.subjectAltName, `URI:${endpoint.set.workloads[0]?.svid.current?.spiffeId}`);
    assert.match(privateKey.inlineBytes.toString(), /^-----BEGIN PRIVATE KEY-----\n/);
    assert.equal(leaf.checkPrivateKey(createPrivateKey(privateKey.inlineBytes)), true);
    assert.equal(endpoint.metrics.open.sds, 1);
    stream.cancel();
    await until(() => endpoint.metrics.open.sds === 0);
  });

  it("has every name that SPIRE's agent has, several in one request", async () => {
    await using endpoint = await startEndpoint(["web", "api"]);
    const { set, client } = endpoint;
    const id = (index: number) => set.workloads[index]?.svid.current?.spiffeId ?? "";
    const trustDomain = set.bundle.current?.trustDomain ?? "";
    const { stream, reader } = client.secrets();
    const names = ["default", id(0), id(1), "ROOTCA", `spiffe://${trustDomain}`, "ALL"];
    stream.write({ resourceNames: [...names, "ROOTCA", ""], typeUrl: TYPE });
    const secrets = secretsOf(await reader.next());
    assert.deepEqual([...secrets.keys()], names);
    const chain = (name: string) =>
      secrets.get(name)?.tlsCertificate.certificateChain.inlineBytes.toString();
    assert.equal(chain("default"), chain(id(0)));
    assert.notEqual(chain("default"), chain(id(1)));
    const roots = secrets.get("ROOTCA")?.validationContext.trustedCa?.inlineBytes;
    assert.ok(roots !== undefined);
    assert.equal(new X509Certificate(roots).ca, true);
    assert.deepEqual(
      secrets.get(`spiffe://${trustDomain}`)?.validationContext.trustedCa?.inlineBytes,
      roots,
    );
    const all = secrets.get("ALL")?.validationContext.customValidatorConfig;
    assert.equal(all?.name, "envoy.tls.cert_validator.spiffe");
    const config = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
    assert.equal(all.typedConfig.type_url, `type.googleapis.com/${config}`);
    assert.deepEqual(messageType(config).deserialize(all.typedConfig.value), {
      trustDomains: [
        { name: trustDomain, trustBundle: { inlineBytes: roots, specifier: "inlineBytes" } },
      ],
    });
  });

  it("answers a request without names with every identity and the roots", async () => {
    await using endpoint = await startEndpoint(["web", "api"]);
    const { set, client } = endpoint;
    const { stream, reader } = client.secrets();
    stream.write({});
    const response = await reader.next();
    assert.deepEqual(
      [...secretsOf(response).keys()],
      [
        ...set.workloads.map(({ svid }) => svid.current?.spiffeId),
        `spiffe://${set.bundle.current?.trustDomain}`,
      ],
    );
  });

  it("sends nothing after an acknowledgement until something changes", async () => {
    await using endpoint = await startEndpoint();
    const { set, client } = endpoint;
    const { stream, reader } = client.secrets();
    stream.write({ resourceNames: ["default"], typeUrl: TYPE });
    const first = await reader.next();
    stream.write(ack(first, ["default"]));
    // Roots are no part of this subscription.
    assert.ok(set.bundle.current !== null);
    set.bundle.set({ ...set.bundle.current, roots: [...set.bundle.current.roots].reverse() });
    await set.renew();
    const second = await reader.next();
    assert.notEqual(second.versionInfo, first.versionInfo);
    assert.notEqual(second.nonce, first.nonce);
    stream.write(ack(second, ["default"]));
    await set.renew();
    const third = await reader.next();
    assert.deepEqual(new Set([first, second, third].map(({ versionInfo }) => versionInfo)).size, 3);
    assert.equal(reader.waiting, 0);
  });

  it("has a version that is the same for the same content, on every stream", async () => {
    await using endpoint = await startEndpoint(["web", "api"]);
    const { client, set } = endpoint;
    const versions = await Promise.all(
      [["default", "ROOTCA"], ["ROOTCA", "default"], ["ROOTCA"]].map(
        async (resourceNames) => (await client.fetchSecrets({ resourceNames })).versionInfo,
      ),
    );
    assert.equal(versions[0], versions[1]);
    assert.notEqual(versions[0], versions[2]);
    await set.renew(1);
    const again = await client.fetchSecrets({ resourceNames: ["ROOTCA", "default"] });
    assert.equal(again.versionInfo, versions[0]);
  });

  it("logs a refusal by Envoy and sends nothing until something changes", async () => {
    await using endpoint = await startEndpoint();
    const { set, client, log, metrics } = endpoint;
    const { stream, reader } = client.secrets();
    stream.write({ resourceNames: ["default"], typeUrl: TYPE, node: { id: "envoy-1" } });
    const first = await reader.next();
    const refused = {
      ...ack(first, ["default"]),
      versionInfo: "",
      errorDetail: { code: 3, message: `bad\n${"x".repeat(1000)}` },
    };
    for (let i = 0; i < 50; i++) stream.write(refused);
    await until(() => metrics.refusals.length === 50);
    assert.deepEqual(new Set(metrics.refusals), new Set(["sds nack"]));
    const warnings = log.lines.filter(({ level }) => level === "warn");
    assert.equal(warnings.length, 1);
    assert.equal(warnings[0]?.message, "Envoy refused secrets and keeps its last ones");
    assert.deepEqual(warnings[0]?.fields, {
      node: "envoy-1",
      names: ["default"],
      version: first.versionInfo,
      error: `bad\n${"x".repeat(296)}`,
      omitted: undefined,
    });
    assert.equal(reader.waiting, 0);
    await set.renew();
    assert.notEqual((await reader.next()).versionInfo, first.versionInfo);
    // A second later, the next line has the number of those that were left out.
    set.ca.clock.advance(1000);
    stream.write({ ...refused, responseNonce: "2" });
    await until(() => log.lines.filter(({ level }) => level === "warn").length === 2);
    assert.equal(log.lines.at(-1)?.fields.omitted, 49);
  });

  it("ignores a request with the nonce of an earlier response", async () => {
    await using endpoint = await startEndpoint();
    const { set, client } = endpoint;
    const { stream, reader } = client.secrets();
    stream.write({ resourceNames: ["default"], typeUrl: TYPE });
    const first = await reader.next();
    await set.renew();
    const second = await reader.next();
    // Its other names, even unknown ones, are not looked at.
    stream.write(ack(first, ["default", "nothing-like-this"]));
    stream.write(ack(second, ["default", "ROOTCA"]));
    const third = await reader.next();
    assert.deepEqual([...secretsOf(third).keys()], ["default", "ROOTCA"]);
  });

  it("takes a first request with the version and the nonce of another stream", async () => {
    await using endpoint = await startEndpoint();
    const { client } = endpoint;
    const first = client.secrets();
    first.stream.write({ resourceNames: ["default"], typeUrl: TYPE });
    const response = await first.reader.next();
    const second = client.secrets();
    second.stream.write({ ...ack(response, ["default"]), responseNonce: "of-another-stream" });
    assert.equal((await second.reader.next()).versionInfo, response.versionInfo);
  });

  it("drops names that are given up, and takes them back", async () => {
    await using endpoint = await startEndpoint(["web", "api"]);
    const { set, client } = endpoint;
    const { stream, reader } = client.secrets();
    stream.write({ resourceNames: ["default", "ROOTCA"], typeUrl: TYPE });
    const both = await reader.next();
    stream.write(ack(both, ["ROOTCA", "ALL"]));
    const other = await reader.next();
    assert.deepEqual([...secretsOf(other).keys()], ["ROOTCA", "ALL"]);
    stream.write(ack(other, ["ROOTCA", "ALL"]));
    // Only the second change concerns what is left.
    await set.renew();
    await set.rotate();
    const roots = await reader.next();
    assert.deepEqual([...secretsOf(roots).keys()], ["ROOTCA", "ALL"]);
    stream.write(ack(roots, []));
    await set.renew();
    const { nonce } = roots;
    stream.write({ resourceNames: ["default"], typeUrl: TYPE, responseNonce: nonce });
    assert.deepEqual([...secretsOf(await reader.next()).keys()], ["default"]);
    assert.equal(reader.waiting, 0);
  });

  it("sends nothing when a leaf expires, and the next one when there is one", async () => {
    await using endpoint = await startEndpoint();
    const { set, client } = endpoint;
    const { stream, reader } = client.secrets();
    stream.write({ resourceNames: ["default", "ROOTCA"], typeUrl: TYPE });
    await reader.next();
    const [web] = set.workloads;
    web?.svid.set(null);
    const late = client.secrets();
    late.stream.write({ resourceNames: ["default"], typeUrl: TYPE });
    await set.rotate();
    assert.deepEqual([...secretsOf(await late.reader.next()).keys()], ["default"]);
    // The roots may have come before the leaf.
    let response = await reader.next();
    if (!secretsOf(response).has("default")) response = await reader.next();
    assert.deepEqual([...secretsOf(response).keys()], ["default", "ROOTCA"]);
    assert.equal(reader.waiting, 0);
  });

  it("waits for what is not there yet, and refuses a name once it is known to be wrong", async () => {
    await using endpoint = await startEndpoint(["web"], { empty: true });
    const { set, client, metrics } = endpoint;
    const [known, unknown] = [client.secrets(), client.secrets()];
    const trustDomain = `${set.ca.manager.require().state.clusterId}.consul`;
    const id = `spiffe://${trustDomain}/ns/default/dc/dc1/svc/web`;
    known.stream.write({ resourceNames: [id, "ROOTCA"], typeUrl: TYPE });
    unknown.stream.write({ resourceNames: [`${id}-2`], typeUrl: TYPE });
    await until(() => metrics.open.sds === 2);
    await set.rotate();
    let response = await known.reader.next();
    if (!secretsOf(response).has(id)) response = await known.reader.next();
    assert.deepEqual([...secretsOf(response).keys()], [id, "ROOTCA"]);
    const { code, details } = await unknown.reader.error();
    assert.equal(code, status.INVALID_ARGUMENT);
    assert.ok(details.startsWith(`This endpoint has no secret with the name "${id}-2"; it has`));
    assert.deepEqual(metrics.refusals, ["sds unknown-name"]);
  });

  for (const name of [
    "web",
    "rootca",
    "DEFAULT",
    "spiffe://other.example",
    "spiffe://other.example/ns/default/dc/dc1/svc/web",
    "spiffe://",
    "SPIFFE://x",
    'a"\n\u0007%ü',
  ])
    it(`refuses the unknown name ${JSON.stringify(name)}, and names it`, async () => {
      await using endpoint = await startEndpoint();
      const { client, metrics } = endpoint;
      const { stream, reader } = client.secrets();
      stream.write({ resourceNames: ["default", name], typeUrl: TYPE });
      const { code, details } = await reader.error();
      assert.equal(code, status.INVALID_ARGUMENT);
      const sent = JSON.stringify(name);
      assert.ok(details.includes(`no secret with the name ${sent}`), details);
      await assert.rejects(client.fetchSecrets({ resourceNames: [name] }), {
        code: status.INVALID_ARGUMENT,
      });
      assert.deepEqual(metrics.refusals, ["sds unknown-name", "sds unknown-name"]);
    });

  it("refuses another type of resource, and names it", async () => {
    await using endpoint = await startEndpoint();
    const { client } = endpoint;
    const typeUrl = "type.googleapis.com/envoy.config.listener.v3.Listener";
    const { stream, reader } = client.secrets();
    stream.write({ resourceNames: ["default"], typeUrl });
    const { code, details } = await reader.error();
    assert.equal(code, status.INVALID_ARGUMENT);
    assert.ok(details.includes(JSON.stringify(typeUrl)), details);
    await assert.rejects(client.fetchSecrets({ typeUrl }), { code: status.INVALID_ARGUMENT });
  });

  it("ends when the client ends its side, and with Unavailable at the end of the agent", async () => {
    const endpoint = await startEndpoint();
    const { client, metrics } = endpoint;
    const first = client.secrets();
    first.stream.write({ resourceNames: ["default"], typeUrl: TYPE });
    await first.reader.next();
    first.stream.end();
    await assert.rejects(first.reader.next(), /The stream ended/);
    await until(() => metrics.open.sds === 0);
    const second = client.secrets();
    second.stream.write({ resourceNames: ["default"], typeUrl: TYPE });
    await second.reader.next();
    await endpoint.socket.close();
    assert.equal((await second.reader.error()).code, status.UNAVAILABLE);
    await endpoint[Symbol.asyncDispose]();
  });
});

describe("the other calls of SDS", () => {
  it("FetchSecrets answers once, and is Unavailable before there is something", async () => {
    await using endpoint = await startEndpoint(["web"], { empty: true });
    const { client, set } = endpoint;
    await assert.rejects(client.fetchSecrets({ resourceNames: ["default"] }), {
      code: status.UNAVAILABLE,
      details: "The roots of the CA are not known yet",
    });
    await set.rotate();
    const response = await client.fetchSecrets({ resourceNames: ["default"], typeUrl: TYPE });
    assert.deepEqual([...secretsOf(response).keys()], ["default"]);
  });

  it("DeltaSecrets is Unimplemented, and says what to configure", async () => {
    await using endpoint = await startEndpoint();
    const { stream, reader } = endpoint.client.secrets("DeltaSecrets");
    stream.write({});
    const { code, details } = await reader.error();
    assert.equal(code, status.UNIMPLEMENTED);
    assert.match(details, /configure Envoy with "api_type: GRPC"/);
    assert.deepEqual(endpoint.metrics.refusals, ["sds unimplemented"]);
  });
});
