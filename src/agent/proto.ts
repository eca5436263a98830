/**
 * The gRPC services and messages that the agent speaks, from the `.proto` files in `proto/`, which
 * lie next to this file wherever the program is installed.
 * @module
 */
import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import type { ServiceDefinition } from "@grpc/grpc-js";
import {
  type AnyDefinition,
  loadSync,
  type MessageTypeDefinition,
  type PackageDefinition,
} from "@grpc/proto-loader";

export const WORKLOAD_API = "SpiffeWorkloadAPI";
export const REFLECTION = "grpc.reflection.v1.ServerReflection";
export const SECRET_DISCOVERY = "envoy.service.secret.v3.SecretDiscoveryService";

const FOLDERS = ["proto/", "proto/envoy/"];
const FILES = ["workload.proto", "sds.proto", "tls.proto", "reflection.proto"];

/** Read on first use: about 30 ms, which a program that serves no socket does not spend. */
let loaded: PackageDefinition | null = null;

/** Every service and message, by its full name; their fields have names in camelCase. */
export function protocol(): PackageDefinition {
  loaded ??= load(false);
  return loaded;
}

/** The same with the fields' names of the files, for those who read the schema. */
export function schema(): PackageDefinition {
  return load(true);
}

function load(keepCase: boolean): PackageDefinition {
  return loadSync(FILES, {
    includeDirs: FOLDERS.map((folder) => fileURLToPath(new URL(folder, import.meta.url))),
    defaults: true,
    oneofs: true,
    bytes: Buffer,
    keepCase,
  });
}

/**
 * A service whose responses are messages that were encoded before, so that one that goes to
 * thousands of streams is encoded once.
 */
export function serviceOfEncoded(name: string): ServiceDefinition {
  const service = protocol()[name];
  if (service === undefined || isMessage(service) || "format" in service)
    throw new TypeError(`There is no gRPC service ${name}`);
  return Object.fromEntries(
    Object.entries(service).map(([method, definition]) => [
      method,
      { ...definition, responseSerialize: encodedBefore },
    ]),
  );
}

/** Encodes a message, with the names of its fields in camelCase. @param name its full name. */
export function encodeMessage(name: string, message: object): Buffer {
  return messageType(name).serialize(message);
}

function messageType(name: string): MessageTypeDefinition<object, object> {
  const type = protocol()[name];
  if (type === undefined || !isMessage(type)) throw new TypeError(`There is no message ${name}`);
  return type;
}

function isMessage(definition: AnyDefinition): definition is MessageTypeDefinition<object, object> {
  return definition.format === "Protocol Buffer 3 DescriptorProto";
}

function encodedBefore(message: unknown): Buffer {
  if (!Buffer.isBuffer(message)) throw new TypeError("The response is not an encoded message");
  return message;
}
