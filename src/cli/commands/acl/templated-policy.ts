/**
 * The commands `meshca acl templated-policy`.
 * @module
 */
import * as v from "valibot";
import { templatedPolicies } from "../../acl/grants.ts";
import {
  type AclObject,
  AclObjectSchema,
  attempt,
  FORMAT_FLAG,
  POLICY,
  required,
  shaped,
  show,
  textOf,
} from "../../acl/records.ts";
import { policyText } from "../../acl/text.ts";
import type { Command, Group } from "../../command.ts";
import type { Flag } from "../../flags.ts";
import { EXIT, Failure, usage } from "../../output.ts";

const shown = { connects: true, json: true } as const;
const NAME: Flag = { name: "name", value: "NAME", help: "builtin/service" };
/** The parts of the name are parts of the path. */
const pathOf = (verb: "name" | "preview", name: string) =>
  `/v1/acl/templated-policy/${verb}/${name.split("/").map(encodeURIComponent).join("/")}`;

const list: Command = {
  name: "list",
  summary: "show the names of the templated policies",
  flags: [FORMAT_FLAG],
  example: "meshca acl templated-policy list",
  ...shown,
  async run(call) {
    const found = await attempt("Failed to retrieve the templated policies list", () =>
      call.connect().json(v.record(v.string(), AclObjectSchema), {
        method: "GET",
        path: "/v1/acl/templated-policies",
      }),
    );
    const sorted = Object.fromEntries(
      Object.entries(found).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    );
    show(call, sorted, (all) => `${Object.keys(all).join("\n")}\n`);
    return 0;
  },
};

/** With the titles of Consul's command line. */
function templateText(template: AclObject, meta: boolean): string {
  const [name, schema] = [textOf(template, "TemplateName"), textOf(template, "Schema")];
  const hasVariable = schema !== "";
  const example = `meshca acl token create -templated-policy ${name}${hasVariable ? " -var name:web" : ""}`;
  return [
    `Name:            ${name}\n`,
    `Description:     ${textOf(template, "Description")}\n`,
    `Input variables:${hasVariable ? "\n\tName: String - Required" : " None"}\n`,
    `Example usage:\n\t${example}\n`,
    meta ? `Schema:\n${schema}\n\nRaw Template:\n${textOf(template, "Template")}\n` : "",
  ].join("");
}

const read: Command = {
  name: "read",
  summary: "show one templated policy",
  flags: [
    NAME,
    { name: "meta", value: null, help: "show the schema of the variables and the rules too" },
    FORMAT_FLAG,
  ],
  example: "meshca acl templated-policy read -name builtin/service",
  ...shown,
  async run(call) {
    const name = required(call, "name", "Must specify the -name parameter");
    // Another name is a path that the server does not have.
    if (!/^[^/]+\/[^/]+$/.test(name))
      throw new Failure(EXIT.data, `Templated policy not found with name ${JSON.stringify(name)}`);
    const found = await attempt(`Error reading templated policy ${JSON.stringify(name)}`, () =>
      call.connect().json(AclObjectSchema, { method: "GET", path: pathOf("name", name) }),
    );
    show(call, found, (policy) => templateText(policy, call.flags.on("meta")));
    return 0;
  },
};

const preview: Command = {
  name: "preview",
  summary: "show the policy that a templated policy is",
  flags: [
    NAME,
    { ...{ name: "var", value: "NAME:VALUE", many: true }, help: "its variable, name:web" },
    {
      ...{ name: "file", value: "FILE", file: true },
      help: 'a templated policy in HCL: TemplatedPolicy "NAME" { Name = "..." }',
    },
    FORMAT_FLAG,
  ],
  example: "meshca acl templated-policy preview -name builtin/service -var name:web",
  ...shown,
  async run(call) {
    const [policy, ...more] = await templatedPolicies(call, "name", "file");
    if (policy === undefined)
      throw usage("Cannot preview a templated policy without specifying -name or -file");
    if (more.length > 0) throw usage("Can only preview a single templated policy at a time");
    const variables = v.safeParse(AclObjectSchema, policy.TemplateVariables);
    const found = await attempt("Failed to generate the templated policy preview", () =>
      call.connect().json(AclObjectSchema, {
        method: "POST",
        path: pathOf("preview", textOf(policy, "TemplateName")),
        body: variables.success ? variables.output : {},
      }),
    );
    show(call, shaped(POLICY, found), (one) => policyText(one, false));
    return 0;
  },
};

export const templatedPolicy: Group = {
  name: "templated-policy",
  summary: "Consul's builtin policies with a variable",
  commands: [list, read, preview],
};
