/**
 * gRPC server reflection (grpc/doc/server-reflection.md), which a SPIFFE Workload Endpoint should
 * have. The package @grpc/reflection does not find a service without a package, as the Workload API
 * is one, and its files name no imports, so that clients cannot link them.
 * @module
 */
import type { Buffer } from "node:buffer";
import {
  type Server,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
} from "@grpc/grpc-js";
import descriptor from "protobufjs/ext/descriptor/index.js";
import { encodeMessage, REFLECTION, serviceOfEncoded } from "./proto.ts";
import { readFiles, symbolsOf, typesUsedBy } from "./schema-files.ts";

/** ServerReflectionRequest; `messageRequest` is the name of the field that is set. */
interface ReflectionRequest {
  readonly messageRequest?: string;
  readonly fileByFilename?: string;
  readonly fileContainingSymbol?: string;
}

/** A file of the schema, with the names of the files that it imports. */
interface SchemaFile {
  readonly encoded: Uint8Array;
  readonly imports: readonly string[];
}

interface Schema {
  readonly files: ReadonlyMap<string, SchemaFile>;
  /** The file of each message, service and method, by its full name. */
  readonly symbols: ReadonlyMap<string, string>;
}

/** Read at the first question of any socket. */
let known: Schema | null = null;

export class Reflection {
  readonly #services: readonly string[];

  /** @param services the full names of those that are listed. */
  constructor(services: readonly string[]) {
    this.#services = services;
  }

  addTo(server: Server): void {
    const service = serviceOfEncoded(REFLECTION);
    const handlers = { ServerReflectionInfo: (call: ReflectionCall) => this.#serve(call) };
    server.addService(service, handlers);
    server.addService(alphaOf(service), handlers);
  }

  #serve(call: ReflectionCall): void {
    call.on("data", (request: ReflectionRequest) => {
      // A client that does not read is not read from either.
      if (call.write(this.#answer(request))) return;
      call.pause();
      call.once("drain", () => call.resume());
    });
    call.on("end", () => call.end());
  }

  #answer(request: ReflectionRequest): Buffer {
    return encodeMessage("grpc.reflection.v1.ServerReflectionResponse", {
      originalRequest: request,
      ...this.#responseTo(request),
    });
  }

  #responseTo(request: ReflectionRequest): object {
    switch (request.messageRequest) {
      case "listServices":
        return { listServicesResponse: { service: this.#services.map((name) => ({ name })) } };
      case "fileByFilename":
        return fileResponse(request.fileByFilename ?? "", "file");
      case "fileContainingSymbol": {
        const file = schema().symbols.get(request.fileContainingSymbol ?? "");
        return fileResponse(file ?? "", "symbol");
      }
      default: {
        const errorMessage = "There are no extensions in this schema";
        return { errorResponse: { errorCode: status.NOT_FOUND, errorMessage } };
      }
    }
  }
}

/** A file with all that it imports. */
function fileResponse(name: string, what: "file" | "symbol"): object {
  const { files } = schema();
  const found = new Set<SchemaFile>();
  const visit = (file: SchemaFile | undefined) => {
    if (file === undefined || found.has(file)) return;
    found.add(file);
    for (const each of file.imports) visit(files.get(each));
  };
  visit(files.get(name));
  if (found.size > 0)
    return {
      fileDescriptorResponse: { fileDescriptorProto: [...found].map(({ encoded }) => encoded) },
    };
  const errorMessage = `There is no such ${what} in this schema`;
  return { errorResponse: { errorCode: status.NOT_FOUND, errorMessage } };
}

function schema(): Schema {
  known ??= readSchema();
  return known;
}

function readSchema(): Schema {
  const read = readFiles();
  const symbols = new Map(
    read.flatMap((file) => symbolsOf(file).map((symbol) => [symbol, file.name])),
  );
  const files = new Map(
    read.map((file) => {
      const types = typesUsedBy(file, (name) => symbols.has(name));
      const owners = new Set(types.flatMap((type) => symbols.get(type) ?? []));
      const imports = [...owners].filter((name) => name !== file.name);
      const message = { ...file.message, dependency: imports };
      const encoded = descriptor.FileDescriptorProto.encode(message).finish();
      return [file.name, { encoded, imports }];
    }),
  );
  return { files, symbols };
}

type ReflectionCall = ServerDuplexStream<ReflectionRequest, Buffer>;

/** The service under the name that older clients know. */
function alphaOf(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(service).map(([name, method]) => [
      name,
      { ...method, path: method.path.replace(".v1.", ".v1alpha.") },
    ]),
  );
}
