/**
 * Guards of security: providers, and the files and servers that they may reach.
 * @module
 */
import { guardsOf, type Mutant } from "./mutant.ts";

export const PROVIDERS: readonly Mutant[] = [
  ...guardsOf(
    "providers/consul/supplied-root.ts",
    [
      "a root with a key that is not the one given",
      "demand(equal(rootKey.spki, key.info.spki),",
      "demand(rootKey.spki.length > 0,",
      "providers/consul/supplied-root",
    ],
    [
      "a root with another URI",
      "uris.length === 1 && uris[0]?.toLowerCase() === wanted",
      "uris.length >= 0",
      "providers/consul/supplied-root",
    ],
    [
      "a private key in a root",
      "if (/PRIVATE KEY/i.test(pem))",
      'if (pem === "")',
      "core/ca/signer",
    ],
    [
      "a root that is not signed by its own key",
      "demand(await isSignedBy(root, root),",
      "demand(true,",
      "providers/consul/supplied-root",
    ],
    [
      "a root that is not valid yet",
      "demand(root.notBefore <= now,",
      "demand(true,",
      "providers/consul/supplied-root",
    ],
  ),
  ...guardsOf("src/core/x509/usable-ca.ts", [
    "a serial number of more than 20 octets",
    "[serial.length <= 20,",
    "[serial.length > 0,",
    "core/x509/usable-ca",
  ]),
  ...guardsOf(
    "providers/vault/config-secrets.ts",
    ["a hidden secret for another address", '["Address", address],', "", "providers/vault/config"],
    [
      "a hidden secret for another mount of the login",
      '["AuthMethod.MountPath", method?.mountPath],',
      "",
      "providers/vault/config",
    ],
    [
      "a hidden secret for a server that is not verified",
      '["TLSSkipVerify", tls.skipVerify],',
      "",
      "providers/vault/config",
    ],
    [
      "a hidden secret for another namespace",
      "for (const [field, namespace] of namespacesOf(next)) if (!known.includes(namespace)) return field;",
      'if (known.length < 0) return "";',
      "providers/vault/config",
    ],
    [
      "a hidden secret_id for another role",
      "sent[ROLE_ID] !== undefined && sent[ROLE_ID] !== kept[ROLE_ID]",
      "false",
      "providers/vault/config",
    ],
    ["a hidden secret with another user name", "    ...params,\n", "", "providers/vault/config"],
  ),
  ...guardsOf("providers/vault/errors.ts", [
    "names of servers in the response to a caller of leaves",
    "text === undefined) return error;",
    "text !== null) return error;",
    "providers/vault/errors",
  ]),
  ...guardsOf(
    "providers/vault/egress-allowlist.ts",
    [
      "addresses that no name may resolve to",
      "return this.#lists(url) && (isLiteral || !inSome(address, NEVER_BY_NAME));",
      "return this.#lists(url);",
      "providers/vault/egress-allowlist",
    ],
    [
      "plain HTTP beyond loopback",
      'if (url.protocol !== "https:" && !maybeLoopback)',
      'if (url.protocol === "ftp:")',
      "providers/vault/egress-allowlist",
    ],
    [
      "plain HTTP to an address beyond loopback",
      'if (url.protocol !== "https:" && !inSome(address, LOOPBACK))',
      'if (url.protocol === "ftp:")',
      "providers/vault/egress-allowlist",
    ],
    [
      "another name that leads to loopback",
      'return loopback || (this.#lists(url) && (isLiteral || url.hostname === "localhost"));',
      "return loopback || this.#lists(url);",
      "providers/vault/egress-allowlist",
    ],
  ),
  ...guardsOf(
    "src/entry/files-platform.ts",
    [
      "folders not on the allowlist",
      "if (!this.#isListed(real)) throw outside(path, this.#folderToList(resolve(path), real));",
      "",
      "entry/files-platform",
    ],
    [
      "the data folder",
      "if (this.#isBelowData(real)) throw",
      'if (real === "") throw',
      "entry/files-platform",
    ],
    [
      "files that settings name",
      "if (isSameFile(opened, other)) throw refused(path, `is the file",
      'if (other === "") throw refused(path, `is the file',
      "entry/files-platform",
    ],
    [
      "a hard link to a file of the data folder",
      "if (isSameFile(opened, name)) throw",
      'if (name === "") throw',
      "entry/files-platform",
    ],
    [
      "files other than regular files",
      "if (!lstatSync(real).isFile()) throw",
      'if (real === "") throw',
      "entry/files-platform",
    ],
    [
      "a link to the root",
      'return real !== null && real !== "/" && isBelow(path, real);',
      "return real !== null && isBelow(path, real);",
      "entry/files-platform",
    ],
  ),
];
