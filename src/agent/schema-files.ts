/**
 * The schema of the agent's gRPC services as descriptors (google/protobuf/descriptor.proto), in the
 * form that protoc writes: what protobufjs writes differs in names of types and of maps.
 * @module
 */
import type { Buffer } from "node:buffer";
import descriptor, {
  type IDescriptorProto,
  type IFileDescriptorProto,
} from "protobufjs/ext/descriptor/index.js";
import { schema } from "./proto.ts";

export interface ReadFile {
  readonly name: string;
  /** With a dot at its end, or empty. */
  readonly prefix: string;
  readonly message: IFileDescriptorProto;
}

/** The files of the schema, one for each package, as @grpc/proto-loader writes them. */
export function readFiles(): ReadFile[] {
  const found = new Map<string, ReadFile>();
  for (const definition of Object.values(schema())) {
    if (!("fileDescriptorProtos" in definition)) continue;
    for (const encoded of definition.fileDescriptorProtos as Buffer[]) {
      const decoded = descriptor.FileDescriptorProto.decode(encoded);
      const message: IFileDescriptorProto = descriptor.FileDescriptorProto.toObject(decoded);
      const { name = "", package: pack = "" } = message;
      nameMapEntries(message.messageType ?? []);
      found.set(name, { name, prefix: pack === "" ? "" : `${pack}.`, message });
    }
  }
  return [...found.values()];
}

/** Full names without a dot in front. */
export function symbolsOf({ prefix, message }: ReadFile): string[] {
  const within = (outer: string, types: readonly IDescriptorProto[]): string[] =>
    types.flatMap(({ name, nestedType, enumType }) => [
      `${outer}${name}`,
      ...within(`${outer}${name}.`, nestedType ?? []),
      ...(enumType ?? []).map((each) => `${outer}${name}.${each.name}`),
    ]);
  return [
    ...within(prefix, message.messageType ?? []),
    ...(message.enumType ?? []).map(({ name }) => `${prefix}${name}`),
    ...(message.service ?? []).flatMap(({ name, method }) => [
      `${prefix}${name}`,
      ...(method ?? []).map((each) => `${prefix}${name}.${each.name}`),
    ]),
  ];
}

/**
 * Full names of the types that a file uses, without a dot in front. @grpc/proto-loader writes those
 * of fields relative to their message, in a way that not every client resolves: they become full.
 */
export function typesUsedBy(
  { prefix, message }: ReadFile,
  isKnown: (name: string) => boolean,
): string[] {
  const within = (outer: string, types: readonly IDescriptorProto[]): string[] =>
    types.flatMap(({ name, field, nestedType }) => [
      ...(field ?? []).flatMap((each) => {
        if (!each.typeName) return [];
        const type = fullName(each.typeName, `${outer}${name}`, isKnown);
        each.typeName = `.${type}`;
        return type;
      }),
      ...within(`${outer}${name}.`, nestedType ?? []),
    ]);
  const methods = (message.service ?? []).flatMap(({ method }) => method ?? []);
  const ofMethods = methods.flatMap(({ inputType, outputType }) => [inputType, outputType]);
  return [
    ...within(prefix, message.messageType ?? []),
    ...ofMethods.map((type = "") => type.slice(1)),
  ];
}

/** The type that a name means in a scope: the innermost one that has it. */
function fullName(name: string, scope: string, isKnown: (name: string) => boolean): string {
  if (name.startsWith(".")) return name.slice(1);
  if (isKnown(`${scope}.${name}`)) return `${scope}.${name}`;
  const end = scope.lastIndexOf(".");
  return end < 0 ? name : fullName(name, scope.slice(0, end), isKnown);
}

/**
 * Gives the entries of maps their names: that of the field in CamelCase, and "Entry"
 * (google/protobuf/descriptor.proto, MessageOptions.map_entry).
 */
function nameMapEntries(types: readonly IDescriptorProto[]): void {
  for (const { field = [], nestedType = [] } of types) {
    for (const entry of nestedType) {
      if (entry.options?.mapEntry !== true) continue;
      const { name = "" } = entry;
      const camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
      entry.name = `${camel}Entry`;
      for (const each of field) if (each.typeName === name) each.typeName = entry.name;
    }
    nameMapEntries(nestedType);
  }
}
