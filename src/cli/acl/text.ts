/**
 * ACL objects in the text of Consul's command line.
 * @module
 */
import { type Json, sortKeys, writeJson } from "../../consul/go-json.ts";
import { hex } from "../../core/bytes.ts";
import { type AclObject, objectsOf, textOf } from "./records.ts";

/** A line of a block: its title and its value. */
type Line = readonly [title: string, value: string];

/** @param width of the titles with the space after them */
const lines = (all: readonly Line[], width: number, indent = ""): string =>
  all.map(([title, value]) => `${indent}${`${title}:`.padEnd(width)}${value}\n`).join("");

/** An instant as Go prints one: without zeros at the end of its fraction. */
function goTime(text: string): string {
  const [date = "", time = ""] = text.replace(/Z$/, "").split("T");
  const [whole = "", fraction = ""] = time.split(".");
  const rest = fraction.replace(/0+$/, "");
  return `${date} ${whole}${rest === "" ? "" : `.${rest}`} +0000 UTC`;
}

const metaLines = (object: AclObject, withHash: boolean): Line[] => [
  ...(withHash
    ? [["Hash", hex(Buffer.from(textOf(object, "Hash"), "base64"))] satisfies Line]
    : []),
  ["Create Index", textOf(object, "CreateIndex")],
  ["Modify Index", textOf(object, "ModifyIndex")],
];

const datacentersOf = (object: AclObject): string => {
  const { Datacenters } = object;
  return Array.isArray(Datacenters) && Datacenters.length > 0 ? Datacenters.join(", ") : "all";
};

/** The parts of tokens and roles. @param indent of the titles */
function grantsText(object: AclObject, indent: string): string {
  const part = (
    title: string,
    name: string,
    text: (one: AclObject) => readonly string[],
  ): string => {
    const all = objectsOf(object, name);
    if (all.length === 0) return "";
    const items = all.flatMap(text).map((line) => `${indent}   ${line}\n`);
    return `${indent}${title}:\n${items.join("")}`;
  };
  const link = (one: AclObject) => [`${textOf(one, "ID")} - ${textOf(one, "Name")}`];
  return [
    part("Policies", "Policies", link),
    part("Roles", "Roles", link),
    part("Service Identities", "ServiceIdentities", (one) => [
      `${textOf(one, "ServiceName")} (Datacenters: ${datacentersOf(one)})`,
    ]),
    part("Node Identities", "NodeIdentities", (one) => [
      `${textOf(one, "NodeName")} (Datacenter: ${textOf(one, "Datacenter")})`,
    ]),
    part("Templated Policies", "TemplatedPolicies", (one) => {
      const { TemplateVariables } = one;
      const name =
        typeof TemplateVariables === "object" && TemplateVariables !== null
          ? textOf(TemplateVariables as AclObject, "Name")
          : "";
      return [
        textOf(one, "TemplateName"),
        ...(name === "" ? [] : [`   Name: ${name}`]),
        `   Datacenters: ${datacentersOf(one)}`,
      ];
    }),
  ].join("");
}

/** A text of one object, by whether its hash and indexes are shown. */
export type ObjectText = (object: AclObject, meta: boolean) => string;

export const tokenText: ObjectText = (token, meta) => {
  const method = textOf(token, "AuthMethod");
  const expiry = textOf(token, "ExpirationTime");
  return (
    lines(
      [
        ["AccessorID", textOf(token, "AccessorID")],
        ["SecretID", textOf(token, "SecretID")],
        ["Description", textOf(token, "Description")],
        ["Local", textOf(token, "Local")],
        ...(method === "" ? [] : [["Auth Method", `${method} (Namespace: )`] satisfies Line]),
        ["Create Time", goTime(textOf(token, "CreateTime"))],
        ...(expiry === "" ? [] : [["Expiration Time", goTime(expiry)] satisfies Line]),
        ...(meta ? metaLines(token, true) : []),
      ],
      18,
    ) + grantsText(token, "")
  );
};

/** A token with all of its rules; of identities and templated policies the policies that they are. */
export const expandedTokenText: ObjectText = (token, meta) => {
  const policies = objectsOf(token, "ExpandedPolicies").map((policy) => {
    const rules = textOf(policy, "Rules").trimEnd().replaceAll(/^/gm, "\t\t");
    const [id, description] = [textOf(policy, "ID"), textOf(policy, "Description")];
    return `Policy Name: ${textOf(policy, "Name")}\n\tID: ${id}\n\tDescription: ${description}\n\tRules:\n${rules}\n\n`;
  });
  return `${tokenText(token, meta)}\n${policies.join("")}Default Policy: ${textOf(token, "AgentACLDefaultPolicy")}\n`;
};

export const roleText: ObjectText = (role, meta) =>
  lines(
    [
      ["ID", textOf(role, "ID")],
      ["Name", textOf(role, "Name")],
      ["Description", textOf(role, "Description")],
      ...(meta ? metaLines(role, true) : []),
    ],
    14,
  ) + grantsText(role, "");

export const roleListText: ObjectText = (role, meta) =>
  `${textOf(role, "Name")}:\n${lines(
    [
      ["ID", textOf(role, "ID")],
      ["Description", textOf(role, "Description")],
      ...(meta ? metaLines(role, true) : []),
    ],
    14,
    "   ",
  )}${grantsText(role, "   ")}`;

const policyDatacenters = ({ Datacenters }: AclObject): string =>
  Array.isArray(Datacenters) ? Datacenters.join(", ") : "";

export const policyText: ObjectText = (policy, meta) =>
  `${lines(
    [
      ["ID", textOf(policy, "ID")],
      ["Name", textOf(policy, "Name")],
      ["Description", textOf(policy, "Description")],
      ["Datacenters", policyDatacenters(policy)],
      ...(meta ? metaLines(policy, true) : []),
    ],
    14,
  )}Rules:\n${textOf(policy, "Rules")}`;

export const policyListText: ObjectText = (policy, meta) =>
  `${textOf(policy, "Name")}:\n${lines(
    [
      ["ID", textOf(policy, "ID")],
      ["Description", textOf(policy, "Description")],
      ["Datacenters", policyDatacenters(policy)],
      ...(meta ? metaLines(policy, true) : []),
    ],
    14,
    "   ",
  )}`;

const methodLines = (method: AclObject, withTtl: boolean, meta: boolean): Line[] => {
  const optional = (title: string): Line[] => {
    const value = textOf(method, title);
    return value === "" ? [] : [[title, value]];
  };
  return [
    ["Type", textOf(method, "Type")],
    ...optional("DisplayName"),
    ["Description", textOf(method, "Description")],
    ...(withTtl ? optional("MaxTokenTTL") : []),
    ...(meta ? metaLines(method, false) : []),
  ];
};

/** JSON as Go writes it, with an indentation of 2 blanks. */
const configText = (config: Json): string =>
  writeJson(sortKeys(config), true)
    .trimEnd()
    .replaceAll(/^ +/gm, (blanks) => " ".repeat(blanks.length / 2));

export const methodText: ObjectText = (method, meta) =>
  `${lines([["Name", textOf(method, "Name")], ...methodLines(method, true, meta)], 15)}Config:\n${configText(method.Config ?? {})}`;

export const methodListText: ObjectText = (method, meta) =>
  `${textOf(method, "Name")}:\n${lines(methodLines(method, false, meta), 14, "   ")}`;

const ruleLines = (rule: AclObject, indent: string, meta: boolean): Line[] => {
  const { BindVars } = rule;
  const name =
    typeof BindVars === "object" && BindVars !== null ? textOf(BindVars as AclObject, "Name") : "";
  return [
    ["AuthMethod", textOf(rule, "AuthMethod")],
    ["Description", textOf(rule, "Description")],
    ["BindType", textOf(rule, "BindType")],
    ["BindName", textOf(rule, "BindName")],
    ...(name === "" ? [] : [["BindVars", `\n${indent}- Name: ${name}`] satisfies Line]),
    ["Selector", textOf(rule, "Selector")],
    ...(meta ? metaLines(rule, false) : []),
  ];
};

export const ruleText: ObjectText = (rule, meta) =>
  lines([["ID", textOf(rule, "ID")], ...ruleLines(rule, "     ", meta)], 14);

export const ruleListText: ObjectText = (rule, meta) =>
  `${textOf(rule, "ID")}:\n${lines(ruleLines(rule, "      ", meta), 14, "   ")}`;

/** Objects one below the other; tokens, which have no heading, with an empty line between them. */
export const listText =
  (text: ObjectText, meta: boolean) =>
  (objects: readonly AclObject[]): string =>
    objects.map((object) => text(object, meta)).join(text === tokenText ? "\n" : "");
