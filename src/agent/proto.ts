/**
 * The gRPC services and messages that the agent speaks, from the `.proto` files in `proto/`.
 * @module
 */
import { Buffer } from "node:buffer";
import type { ServiceDefinition } from "@grpc/grpc-js";
import {
  type AnyDefinition,
  fromJSON,
  type MessageTypeDefinition,
  type PackageDefinition,
} from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { protoText } from "./proto-files.ts";

export const WORKLOAD_API = "SpiffeWorkloadAPI";
export const REFLECTION = "grpc.reflection.v1.ServerReflection";
export const SECRET_DISCOVERY = "envoy.service.secret.v3.SecretDiscoveryService";

/** By the name that other files import them by: their paths below `proto/`. */
const FILES: Readonly<Record<string, string>> = {
  "workload.proto": "workload.proto",
  "reflection.proto": "reflection.proto",
  "sds.proto": "envoy/sds.proto",
  "tls.proto": "envoy/tls.proto",
  "discovery.proto": "envoy/discovery.proto",
  "core.proto": "envoy/core.proto",
  "status.proto": "envoy/status.proto",
};

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
  const root = new protobuf.Root();
  const imported = new Set<string>();
  for (const path of Object.values(FILES))
    for (const name of protobuf.parse(protoText(path), root, { keepCase }).imports ?? [])
      imported.add(name);
  // What is imported from elsewhere is of protobuf itself, which protobufjs has.
  for (const name of imported) if (!(name in FILES)) addCommon(root, name);
  root.resolveAll();
  return fromJSON(root.toJSON(), { defaults: true, oneofs: true, bytes: Buffer, keepCase });
}

function addCommon(root: protobuf.Root, name: string): void {
  const common = protobuf.common.get(name);
  if (common?.nested === undefined) throw new TypeError(`There is no file ${name}`);
  root.addJSON(common.nested);
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
