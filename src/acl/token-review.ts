/**
 * Kubernetes' TokenReview: its API server decides whether a login token is valid and whose it is, as
 * in Consul's auth method (agent/consul/authmethod/kubeauth/k8s.go). The request carries the service
 * account token that the auth method has for this.
 * @module
 */
import * as v from "valibot";
import { GuardedFetch, type GuardedFetchOptions } from "../net/guarded-fetch.ts";
import { loginDenied } from "./errors.ts";

/** Concurrent reviews: anyone who can reach this server can cause one, at the API server. */
const MAX_REVIEWS = 32;
/** Consul's annotation by which a service account names another service than itself. */
const SERVICE_NAME = "consul.hashicorp.com/service-name";
/** Names of namespaces and service accounts (Kubernetes' `validation.NameIsDNSSubdomain`). */
const NAME = /^[a-z0-9][a-z0-9.-]{0,252}$/;

/** Where a review is asked for. */
interface ReviewApi {
  readonly host: string;
  /** PEM of the API server's CA. */
  readonly ca: string;
  /** The service account token that is sent as bearer token. */
  readonly token: string;
}

/** A service account, as a review names it. */
export interface ReviewedAccount {
  readonly namespace: string;
  /** The service account, or the service that it names by annotation. */
  readonly name: string;
  readonly uid: string;
  /** The username that Kubernetes gives it, with its pod if the token is bound to one. */
  readonly subject: string;
}

const texts = v.array(v.string());
const Review = v.object({
  status: v.object({
    authenticated: v.nullish(v.boolean(), false),
    user: v.nullish(
      v.object({
        username: v.nullish(v.string(), ""),
        uid: v.nullish(v.string(), ""),
        extra: v.nullish(v.looseObject({}), {}),
      }),
    ),
    audiences: v.nullish(texts, []),
  }),
});
const Account = v.object({ metadata: v.object({ annotations: v.nullish(v.looseObject({}), {}) }) });

export class TokenReviews {
  readonly #fetch: GuardedFetch;
  #running = 0;

  constructor(options: GuardedFetchOptions) {
    this.#fetch = new GuardedFetch(options, "review login token", "the Kubernetes API server");
  }

  /** Checks that a host may be asked. @throws {RequestError} `request_malformed` */
  check(host: string): void {
    this.#fetch.check(host, "Host");
  }

  /**
   * @param audiences the token must be for one of them; if there are none, for the API server.
   * @throws {DeniedError} `permission_denied` if the token is not valid @throws {ProviderError}
   */
  async review(
    api: ReviewApi,
    jwt: string,
    audiences: readonly string[],
  ): Promise<ReviewedAccount> {
    if (this.#running >= MAX_REVIEWS)
      throw this.#fetch.unavailable(`is reviewing ${MAX_REVIEWS} other tokens for this server`);
    this.#running++;
    try {
      return await this.#review(api, jwt, audiences);
    } finally {
      this.#running--;
    }
  }

  async #review(
    api: ReviewApi,
    jwt: string,
    audiences: readonly string[],
  ): Promise<ReviewedAccount> {
    const { status } = await this.#request(
      api,
      "/apis/authentication.k8s.io/v1/tokenreviews",
      Review,
      JSON.stringify({
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenReview",
        spec: { token: jwt, ...(audiences.length === 0 ? {} : { audiences }) },
      }),
    );
    const { authenticated, user } = status;
    if (!authenticated || user == null) throw loginDenied("is unknown to Kubernetes");
    if (audiences.length > 0 && !status.audiences?.some((audience) => audiences.includes(audience)))
      throw loginDenied("is for another audience");
    const [system, kind, namespace = "", name = "", ...rest] = user.username?.split(":") ?? [];
    if (
      system !== "system" ||
      kind !== "serviceaccount" ||
      rest.length > 0 ||
      !NAME.test(namespace) ||
      !NAME.test(name)
    )
      throw loginDenied("is not a token of a Kubernetes service account");
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`;
    const account = await this.#request(api, path, Account);
    const annotated = own(account.metadata.annotations, SERVICE_NAME);
    const pod = ["pod-name", "pod-uid"].flatMap((key) =>
      own(user.extra, `authentication.kubernetes.io/${key}`),
    );
    return {
      namespace,
      name: typeof annotated === "string" ? annotated : name,
      uid: user.uid ?? "",
      subject: [
        user.username,
        ...(pod.every((part) => typeof part === "string") ? ["pod", ...pod] : []),
      ].join(" "),
    };
  }

  /** @param body sent with POST; without one the request is a GET. */
  async #request<T>(
    api: ReviewApi,
    path: string,
    schema: v.GenericSchema<unknown, T>,
    body?: string,
  ): Promise<T> {
    const base = this.#fetch.check(api.host, "Host");
    const url = new URL(base.pathname.replace(/\/$/, "") + path, base);
    const more = body === undefined ? {} : { body };
    const json = await this.#fetch.json({ url, ca: api.ca, bearer: api.token, ...more });
    const read = v.safeParse(schema, json);
    if (!read.success) throw this.#fetch.unavailable("responded in an unexpected format");
    return read.output;
  }
}

function own(fields: object | null | undefined, name: string): unknown {
  return fields != null && Object.hasOwn(fields, name)
    ? (fields as Record<string, unknown>)[name]
    : undefined;
}
