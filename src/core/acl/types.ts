/**
 * The ACL's records: tokens, policies, roles, auth methods, binding rules, denylist entries.
 * @module
 */

export interface ServiceIdentity {
  readonly serviceName: string;
  /** Empty for all. */
  readonly datacenters: readonly string[];
}

export interface NodeIdentity {
  readonly nodeName: string;
  readonly datacenter: string;
}

/** One of Consul's builtin policies with a variable. */
export interface TemplatedPolicy {
  /** `builtin/service`. */
  readonly templateName: string;
  /** The variable `name`; empty for a template without variables. */
  readonly name: string;
  /** Empty for all. */
  readonly datacenters: readonly string[];
}

/** What tokens and roles grant. */
export interface Grants {
  /** Ids. One of a deleted policy grants nothing. */
  readonly policies: readonly string[];
  readonly serviceIdentities: readonly ServiceIdentity[];
  readonly nodeIdentities: readonly NodeIdentity[];
  /** Records of schema 1 and 2 lack it. */
  readonly templatedPolicies?: readonly TemplatedPolicy[] | undefined;
}

/** A token without its secret, which is not stored. */
export interface Token extends Grants {
  readonly accessorId: string;
  readonly description: string;
  /** Ids. One of a deleted role grants nothing. Records of schema 1 and 2 lack it. */
  readonly roles?: readonly string[] | undefined;
  readonly local: boolean;
  readonly createTime: Date;
  readonly expirationTime: Date | null;
  /** The name of the auth method that created it, or null. */
  readonly authMethod: string | null;
  /** Of a token that a login created; records of schema 1 lack it. */
  readonly login?: LoginOrigin | undefined;
}

/** The login that created a token. */
export interface LoginOrigin {
  /** The id of the auth method, which a later one of the same name does not have; null without id. */
  readonly methodId: string | null;
  /** The version of the auth method's record. */
  readonly methodVersion: number;
  /** The subject that logged in, by the name that the issuer gives it. */
  readonly subject: string;
}

export interface AclPolicy {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly rules: string;
  /** Empty for all. */
  readonly datacenters: readonly string[];
}

/** Grants under one name, which tokens link. */
export interface AclRole extends Grants {
  readonly id: string;
  readonly name: string;
  readonly description: string;
}

export interface AuthMethod {
  readonly name: string;
  /** Random; a method that is deleted and created again has another. Records of schema 1 lack it. */
  readonly id?: string | undefined;
  readonly type: "jwt" | "kubernetes";
  readonly displayName: string;
  readonly description: string;
  /**
   * The longest life of a token that it creates, in milliseconds; 0: that of the login token, at most
   * a day.
   */
  readonly maxTokenTtlMs: number;
  /** The settings of its type, as the operator sent them; checked before they are stored. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** What a binding rule gives to a login. */
export type BindType = "service" | "node" | "role" | "policy" | "templated-policy";

export interface BindingRule {
  readonly id: string;
  readonly description: string;
  readonly authMethod: string;
  readonly bindType: BindType;
  /** The name of the identity, the role, the policy, or the template. */
  readonly bindName: string;
  /** The variable `name` of a templated policy; only with that type. */
  readonly bindVariable?: string | undefined;
  /** Empty matches every login. */
  readonly selector: string;
}

/** An entry of the denylist: no replica signs or renews a leaf that it names. */
export interface DenylistEntry {
  readonly id: string;
  readonly kind: "spiffe-id" | "key-id" | "serial";
  /** In canonical form; a SPIFFE ID may end in `/*`. */
  readonly value: string;
  readonly reason: string;
  readonly createTime: Date;
  /** When every leaf that it names has expired. */
  readonly expirationTime: Date;
}

/** The bootstrap: the token that it created. The index of its record is Consul's reset index. */
export interface Bootstrap {
  readonly accessorId: string;
}

/** A deleted record, remembered for as long as its document could be put back. */
export interface Tombstone {
  readonly kind: "token" | "policy" | "role" | "auth-method" | "binding-rule" | "denial";
  readonly id: string;
  /** The version of the record that was deleted. */
  readonly version: number;
  /** When it is no longer needed. */
  readonly expirationTime: Date;
}

/** A stored record, with its version and the indexes of the writes that created and changed it. */
export interface Entry<T> {
  readonly value: T;
  readonly version: number;
  readonly createIndex: number;
  readonly modifyIndex: number;
}
