/**
 * What access control is about: tokens, policies, auth methods, binding rules, denials. How each is
 * kept is ports/record-store.ts's business, how each is shown that of the layer that shows it.
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

/** A token without its secret, which nobody has but its holder. */
export interface Token {
  readonly accessorId: string;
  readonly description: string;
  /** Ids. One that leads nowhere grants nothing. */
  readonly policies: readonly string[];
  readonly serviceIdentities: readonly ServiceIdentity[];
  readonly nodeIdentities: readonly NodeIdentity[];
  readonly local: boolean;
  readonly createTime: Date;
  readonly expirationTime: Date | null;
  /** The auth method that it was made through, or null. */
  readonly authMethod: string | null;
  /** Of a token that a login made; records of the first schema do not have it. */
  readonly login?: LoginOrigin | undefined;
}

/** Where a token comes from that a login made. */
export interface LoginOrigin {
  /**
   * The id of the auth method, which another one of the same name does not have; null if it had
   * none.
   */
  readonly methodId: string | null;
  /** The version of the auth method's record. */
  readonly methodVersion: number;
  /** Who logged in, as the issuer names them. */
  readonly subject: string;
}

export interface Policy {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly rules: string;
  /** Empty for all. */
  readonly datacenters: readonly string[];
}

export interface AuthMethod {
  readonly name: string;
  /**
   * Random, and another one if the method is deleted and made again; records of the first schema do
   * not have it.
   */
  readonly id?: string | undefined;
  readonly type: "jwt" | "kubernetes";
  readonly displayName: string;
  readonly description: string;
  /**
   * How long a token made through it lives at most, in milliseconds; 0 for as long as the login
   * token, a day at most.
   */
  readonly maxTokenTtlMs: number;
  /** Its type's own settings, as they were given; checked before they are stored. */
  readonly config: Readonly<Record<string, unknown>>;
}

export interface BindingRule {
  readonly id: string;
  readonly description: string;
  readonly authMethod: string;
  readonly bindType: "service" | "node";
  readonly bindName: string;
  /** Empty matches every login. */
  readonly selector: string;
}

/** What no replica signs for or renews. */
export interface Denial {
  readonly id: string;
  readonly kind: "spiffe-id" | "key-id" | "serial";
  /** Canonical; a SPIFFE ID may end in `/*`. */
  readonly value: string;
  readonly reason: string;
  readonly createTime: Date;
  /** When no leaf can be alive any more that it is about. */
  readonly expirationTime: Date;
}

/**
 * Whether there was a bootstrap: the accessor that it made. The index of its record is Consul's
 * reset index.
 */
export interface Bootstrap {
  readonly accessorId: string;
}

/** That a record was deleted, kept for as long as its document could be put back. */
export interface Tombstone {
  readonly kind: "token" | "policy" | "auth-method" | "binding-rule" | "denial";
  readonly id: string;
  /** The version of the record that was deleted. */
  readonly version: number;
  /** When it is not needed any more. */
  readonly expirationTime: Date;
}

/** What is stored, with where it is in the order of all writes. */
export interface Entry<T> {
  readonly value: T;
  readonly version: number;
  readonly createIndex: number;
  readonly modifyIndex: number;
}
