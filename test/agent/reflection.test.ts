/**
 * gRPC server reflection, which the SPIFFE Workload Endpoint should have: services and their schema.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Client, credentials, status } from "@grpc/grpc-js";
import descriptor, { type IFileDescriptorProto } from "protobufjs/ext/descriptor/index.js";
import { startEndpoint } from "./endpoint.ts";
import { messageType, Reader } from "./grpc-client.ts";

interface Answer {
  readonly listServicesResponse?: { readonly service: readonly { readonly name: string }[] };
  readonly fileDescriptorResponse?: { readonly fileDescriptorProto: readonly Buffer[] };
  readonly errorResponse?: { readonly errorCode: number };
}

/** Every service with its types, and imports, as a client reads them. */
const SYMBOLS = [
  ["SpiffeWorkloadAPI", "FetchX509SVID"],
  ["SpiffeWorkloadAPI.FetchX509SVID", "FetchX509SVID"],
  ["X509SVIDResponse", "federated_bundles"],
  ["X509SVIDResponse.FederatedBundlesEntry", "federated_bundles"],
  ["envoy.service.secret.v3.SecretDiscoveryService", "StreamSecrets"],
  ["envoy.extensions.transport_sockets.tls.v3.Secret", "tls_certificate"],
] as const;

describe("reflection", () => {
  for (const version of ["v1", "v1alpha"])
    it(`lists both services and their schema (${version})`, async () => {
      await using endpoint = await startEndpoint();
      const client = new Client(`unix:${endpoint.path}`, credentials.createInsecure());
      const stream = client.makeBidiStreamRequest(
        `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        messageType("grpc.reflection.v1.ServerReflectionRequest").serialize,
        (bytes) =>
          messageType("grpc.reflection.v1.ServerReflectionResponse").deserialize(bytes) as Answer,
      );
      const reader = new Reader<Answer>(stream);
      stream.write({ listServices: "*" });
      assert.deepEqual(
        (await reader.next()).listServicesResponse?.service.map(({ name }) => name),
        ["SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService"],
      );
      for (const [symbol, text] of SYMBOLS) {
        stream.write({ fileContainingSymbol: symbol });
        const { fileDescriptorResponse } = await reader.next();
        const files = (fileDescriptorResponse?.fileDescriptorProto ?? []).map(
          (file): IFileDescriptorProto =>
            descriptor.FileDescriptorProto.toObject(descriptor.FileDescriptorProto.decode(file)),
        );
        const [first] = files;
        assert.ok(first !== undefined, symbol);
        assert.ok(
          Buffer.from(descriptor.FileDescriptorProto.encode(first).finish()).includes(text),
          `${symbol} has ${text}`,
        );
        // A client links the files: what one imports is among them.
        const names = files.map(({ name }) => name);
        for (const { dependency = [] } of files)
          assert.deepEqual(
            dependency.filter((name: string) => !names.includes(name)),
            [],
          );
        stream.write({ fileByFilename: first.name });
        const named = (await reader.next()).fileDescriptorResponse?.fileDescriptorProto;
        assert.equal(named?.length, files.length);
      }
      for (const unknown of [
        { fileContainingSymbol: "NoSuchThing" },
        { fileByFilename: "" },
        { allExtensionNumbersOfType: "X509SVID" },
        {},
      ]) {
        stream.write(unknown);
        assert.equal((await reader.next()).errorResponse?.errorCode, status.NOT_FOUND);
      }
      stream.end();
      client.close();
    });
});
