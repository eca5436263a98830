/**
 * Logging in: from a login token to a token of our own with the identities that binding rules give it, and back.
 * @module
 */
import type { AuthMethod, BindingRule, Entry, NodeIdentity, ServiceIdentity, Token } from "../core/access.ts";
import type { BeforeChange } from "../core/access-control.ts";
import { hex, utf8 } from "../core/bytes.ts";
import type { Clock, Random } from "../core/clock.ts";
import { DeniedError } from "../core/errors.ts";
import { sha256 } from "../core/x509/digest.ts";
import type { Directory } from "./directory.ts";
import type { KeySets } from "./jwks.ts";
import { verifyLoginToken } from "./login-token.ts";
import { type BindingSettings, type MethodSettings, readBinding, readSettings } from "./methods.ts";
import type { Fields } from "./selector.ts";
import { isIdentityName, makeUuid, presentedSecret } from "./tokens.ts";

export interface LoginOptions {
  readonly directory: Directory;
  readonly keySets: KeySets;
  readonly datacenter: string;
  readonly clock: Clock;
  readonly random: Random;
}

export interface LoginRequest {
  readonly authMethod: string;
  /** The login token. */
  readonly bearerToken: string;
  /** Shown in the token's description. */
  readonly meta: Readonly<Record<string, string>>;
}

export interface Login {
  /**
   * @returns the new token and its secret, which is nowhere else.
   * @throws {DeniedError} @throws {NotReadyError} @throws {ProviderError} where keys cannot be had @throws {StoreError}
   */
  login(request: LoginRequest, before?: BeforeChange): Promise<{ readonly token: Entry<Token>; readonly secret: string }>;
  /** Deletes the token that a login made. @throws {DeniedError} @throws {NotReadyError} @throws {StoreError} */
  logout(secret: string | null, before?: BeforeChange): Promise<void>;
}

export function createLogin({ directory, keySets, datacenter, clock, random }: LoginOptions): Login {
  // An entry is replaced by every change of it.
  const settings = new WeakMap<Entry<AuthMethod>, MethodSettings>();
  const bindings = new WeakMap<Entry<BindingRule>, { readonly of: MethodSettings; readonly binding: BindingSettings }>();
  const settingsOf = (method: Entry<AuthMethod>): MethodSettings => {
    const read = settings.get(method) ?? readSettings(method.value);
    settings.set(method, read);
    return read;
  };
  const bindingOf = (rule: Entry<BindingRule>, of: MethodSettings): BindingSettings => {
    const before = bindings.get(rule);
    if (before?.of === of) return before.binding;
    const binding = readBinding(rule.value, of);
    bindings.set(rule, { of, binding });
    return binding;
  };

  /** The identities that the rules of a method give to a login. */
  const bind = (method: Entry<AuthMethod>, fields: Fields) => {
    const services = new Map<string, ServiceIdentity>();
    const nodes = new Map<string, NodeIdentity>();
    for (const rule of directory.bindingRules.values()) {
      if (rule.value.authMethod !== method.value.name) continue;
      const { selector, bindName } = bindingOf(rule, settingsOf(method));
      if (!selector(fields)) continue;
      const name = bindName.fill(fields);
      if (name === null || !isIdentityName(name)) throw denied("a binding rule gives it no name that a service or node can have");
      if (rule.value.bindType === "service") services.set(name, { serviceName: name, datacenters: [] });
      else nodes.set(name, { nodeName: name, datacenter });
    }
    return { serviceIdentities: [...services.values()], nodeIdentities: [...nodes.values()] };
  };

  return {
    async login({ authMethod, bearerToken, meta }, before) {
      const method = directory.authMethods.get(authMethod);
      // Consul's text (agent/consul/acl_endpoint.go).
      if (method === undefined)
        throw new DeniedError("token_unknown", `ACL not found: auth method ${JSON.stringify(authMethod)} not found`);
      const { name, type, maxTokenTtlMs } = method.value;
      const read = settingsOf(method);
      const { jwksUrl } = read;
      const getKeySet = jwksUrl === null ? null : (missing: boolean) => keySets.get(jwksUrl, missing);
      const { fields, expiresAt, jti } = await verifyLoginToken(bearerToken, type, read, getKeySet, clock.now());
      const identities = bind(method, fields);
      // A token without any right would only be there to be stored.
      if (identities.serviceIdentities.length + identities.nodeIdentities.length === 0) throw denied("no binding rule matches it");
      const now = clock.now();
      if (read.once && jti !== null) {
        const id = hex(sha256(utf8(JSON.stringify([name, jti]))));
        if (!(await directory.claim(id, Math.max(1, expiresAt.getTime() - now.getTime())))) throw denied("it was used before");
      }
      const [accessorId, secret] = [makeUuid(random), makeUuid(random)];
      const token: Token = {
        accessorId,
        description: `token created via login${Object.keys(meta).length === 0 ? "" : `: ${JSON.stringify(meta)}`}`,
        policies: [],
        ...identities,
        local: true,
        createTime: now,
        expirationTime: maxTokenTtlMs > 0 ? new Date(now.getTime() + maxTokenTtlMs) : expiresAt,
        authMethod: name,
      };
      const key = await directory.hashSecret(secret);
      await directory.write([{ kind: "token", id: accessorId, replaces: null, content: token, key }], before);
      const entry = directory.tokens.get(accessorId);
      return { token: entry ?? { value: token, version: 1, createIndex: directory.index, modifyIndex: directory.index }, secret };
    },
    async logout(secret, before) {
      const presented = presentedSecret(secret);
      const entry = presented === null ? undefined : directory.tokensByHash.get(await directory.hashSecret(presented));
      if (entry === undefined) throw new DeniedError("token_unknown", "ACL not found");
      // Consul's text (agent/consul/auth/token_writer.go).
      if (entry.value.authMethod === null) throw new DeniedError("permission_denied", "Permission denied: token wasn't created via login");
      await directory.write([{ kind: "token", id: entry.value.accessorId, replaces: entry, content: null }], before);
    },
  };
}

function denied(why: string): DeniedError {
  return new DeniedError("permission_denied", `Permission denied: login token is not accepted: ${why}`);
}
