/**
 * Builds kustomize, kubeconform, a check of pod security, schemas of Kubernetes' API and the loader of
 * Compose v2, once a machine, from Go modules, into a cache folder outside of the tree:
 * `bun test/kubernetes/build.ts`.
 * @module
 */
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { builtFolder, sourceHash } from "../fixtures/build-cache.ts";

const SOURCE = join(import.meta.dirname, "checks");
const ENVIRONMENT = {
  ...process.env,
  CGO_ENABLED: "0",
  GOTOOLCHAIN: "local",
  GOFLAGS: "-mod=readonly -buildvcs=false",
};
const PACKAGES = [
  ".",
  "./compose",
  "github.com/yannh/kubeconform/cmd/kubeconform",
  "sigs.k8s.io/kustomize/kustomize/v5",
];

export interface KubernetesTools {
  readonly kustomize: string;
  readonly kubeconform: string;
  /** Prints what a level of the Pod Security Standards forbids. */
  readonly podPolicy: string;
  /** Loads a Compose file as Compose v2 does, and prints it as JSON. */
  readonly compose: string;
  /** The folder of the schemas, each `GROUP_VERSION_KIND.json` in lower case. */
  readonly schemas: string;
}

/** The tools, built if they do not exist yet. @throws {Error} if they cannot be built */
export async function kubernetesTools(): Promise<KubernetesTools> {
  const name = `kubernetes-${sourceHash("1", SOURCE, import.meta.filename)}`;
  const folder = await builtFolder("servers", name, async (draft) => {
    const go = (...args: string[]) =>
      promisify(execFile)("go", args, { cwd: SOURCE, env: ENVIRONMENT });
    await go("build", "-trimpath", "-ldflags", "-s -w", "-o", `${draft}/`, ...PACKAGES);
    const moduleDir = async (module: string) => {
      await go("mod", "download", module);
      return (await go("list", "-m", "-f", "{{.Dir}}", module)).stdout.trim();
    };
    const documents = join(await moduleDir("k8s.io/client-go"), "openapi/openapitest/testdata");
    const swagger = join(
      await moduleDir("k8s.io/kube-openapi"),
      "pkg/schemaconv/testdata/swagger.json",
    );
    mkdirSync(join(draft, "schemas"));
    // Later documents replace kinds of earlier ones: the swagger document is of an older Kubernetes.
    for (const path of [
      swagger,
      join(documents, "api__v1_openapi.json"),
      join(documents, "apis__apps__v1_openapi.json"),
    ])
      writeSchemas(JSON.parse(readFileSync(path, "utf8")) as Document, join(draft, "schemas"));
  });
  return {
    kustomize: join(folder, "kustomize"),
    kubeconform: join(folder, "kubeconform"),
    podPolicy: join(folder, "kubernetes"),
    compose: join(folder, "compose"),
    schemas: join(folder, "schemas"),
  };
}

interface Schema {
  readonly type?: string;
  readonly format?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: unknown;
  readonly required?: readonly string[];
  readonly "x-kubernetes-group-version-kind"?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
  readonly [key: string]: unknown;
}

/** OpenAPI 2 has `definitions`, OpenAPI 3 `components.schemas`. */
interface Document {
  readonly definitions?: Readonly<Record<string, Schema>>;
  readonly components?: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** JSON schemas of every kind in a document, which refuse unknown fields. */
function writeSchemas({ definitions, components }: Document, folder: string): void {
  const all = definitions ?? components?.schemas ?? {};
  const strict = Object.fromEntries(
    Object.entries(all).map(([name, schema]) => [name, strictSchema(withSidecars(name, schema))]),
  );
  const [root, at] =
    definitions === undefined
      ? [{ components: { schemas: strict } }, "#/components/schemas/"]
      : [{ definitions: strict }, "#/definitions/"];
  for (const [name, schema] of Object.entries(all))
    for (const { group, version, kind } of schema["x-kubernetes-group-version-kind"] ?? []) {
      if (schema.properties?.spec === undefined && schema.properties?.metadata === undefined)
        continue;
      // What kubeconform calls the group of the core kinds.
      const file = `${group === "" ? version : group}_${version}_${kind}.json`.toLowerCase();
      const text = JSON.stringify({
        ...root,
        allOf: [{ $ref: `${at}${name}` }],
        required: ["apiVersion", "kind", "metadata"],
      });
      writeFileSync(join(folder, file), text);
    }
}

/**
 * The documents are of Kubernetes 1.27: sidecars came with 1.28 (KEP-753). `podPolicy` decodes pods
 * with the types of a later version.
 */
function withSidecars(name: string, schema: Schema): Schema {
  if (name !== "io.k8s.api.core.v1.Container") return schema;
  const restartPolicy = { type: "string", enum: ["Always"] };
  return { ...schema, properties: { ...schema.properties, restartPolicy } } as Schema;
}

/** Values that OpenAPI 2 has no type for, and objects without other properties than those named. */
function strictSchema(schema: Schema): Schema {
  if (schema.format === "int-or-string" && schema.type === "string")
    return { oneOf: [{ type: "integer" }, { type: "string" }] };
  if (schema.properties === undefined || schema.additionalProperties !== undefined) return schema;
  return { ...schema, additionalProperties: false };
}

if (import.meta.main) console.log(await kubernetesTools());
