/**
 * Kubernetes' TokenReview: its API server says whether a login token is good and whose it is, as
 * for Consul's auth method (agent/consul/authmethod/kubeauth/k8s.go). It is asked with a token of
 * its own, which the auth method has.
 * @module
 */
import * as v from "valibot";
import { DeniedError } from "../core/errors.ts";
import { createGuardedFetch, type GuardedFetchOptions, unavailable } from "../net/guarded-fetch.ts";

const PURPOSE = "review login token";
/**
 * Reviews at once: each is a request to the API server that anybody who can reach this server can
 * cause.
 */
const MAX_REVIEWS = 32;
/** Consul's annotation by which a service account names another service than itself. */
const SERVICE_NAME = "consul.hashicorp.com/service-name";
/**
 * RFC 1123 names, of which namespaces and service accounts are (Kubernetes'
 * `validation.NameIsDNSSubdomain`).
 */
const NAME = /^[a-z0-9][a-z0-9.-]{0,252}$/;

/** Where a review is asked for. */
export interface ReviewApi {
  readonly host: string;
  /** PEM of the API server's CA. */
  readonly ca: string;
  /** The token that asks. */
  readonly token: string;
}

export interface Reviewed {
  readonly namespace: string;
  /** The service account, or the service that it names by annotation. */
  readonly name: string;
  readonly uid: string;
  /** The username that Kubernetes gives it, with its pod if the token is of one. */
  readonly subject: string;
}

export interface TokenReviews {
  /** Whether a host may be asked at all. @throws {RequestError} `request_malformed` */
  check(host: string): void;
  /**
   * @param audiences those that the token must be for, one of them; none for the API server's own.
   * @throws {DeniedError} `permission_denied` if the token is not good @throws {ProviderError}
   */
  review(api: ReviewApi, jwt: string, audiences: readonly string[]): Promise<Reviewed>;
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

export function createTokenReviews(options: GuardedFetchOptions): TokenReviews {
  const outside = createGuardedFetch(options);
  let running = 0;
  const ask = async <T>(
    api: ReviewApi,
    path: string,
    schema: v.GenericSchema<unknown, T>,
    body?: string,
  ): Promise<T> => {
    const base = outside.check(api.host, "Host");
    const url = new URL(base.pathname.replace(/\/$/, "") + path, base);
    const more = body === undefined ? {} : { body };
    const answer = v.safeParse(
      schema,
      await outside.ask({ url, ca: api.ca, purpose: PURPOSE, bearer: api.token, ...more }),
    );
    if (!answer.success)
      throw unavailable(PURPOSE, "Kubernetes' answer does not have the form that it must have");
    return answer.output;
  };

  const review = async (
    api: ReviewApi,
    jwt: string,
    audiences: readonly string[],
  ): Promise<Reviewed> => {
    const spec = { token: jwt, ...(audiences.length === 0 ? {} : { audiences }) };
    const body = JSON.stringify({
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      spec,
    });
    const { status } = await ask(api, "/apis/authentication.k8s.io/v1/tokenreviews", Review, body);
    const { authenticated, user } = status;
    if (!authenticated || user == null) throw denied("Kubernetes does not know it");
    if (audiences.length > 0 && !status.audiences?.some((audience) => audiences.includes(audience)))
      throw denied("it is for another audience");
    const [system, kind, namespace = "", name = "", ...rest] = user.username?.split(":") ?? [];
    if (
      system !== "system" ||
      kind !== "serviceaccount" ||
      rest.length > 0 ||
      !NAME.test(namespace) ||
      !NAME.test(name)
    )
      throw denied("it is no token of a Kubernetes service account");
    const account = await ask(
      api,
      `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`,
      Account,
    );
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
  };

  return {
    check: (host) => void outside.check(host, "Host"),
    async review(api, jwt, audiences) {
      if (running >= MAX_REVIEWS)
        throw unavailable(PURPOSE, `${MAX_REVIEWS} are being reviewed already`);
      running++;
      try {
        return await review(api, jwt, audiences);
      } finally {
        running--;
      }
    },
  };
}

function own(fields: object | null | undefined, name: string): unknown {
  return fields != null && Object.hasOwn(fields, name)
    ? (fields as Record<string, unknown>)[name]
    : undefined;
}

function denied(why: string): DeniedError {
  return new DeniedError(
    "permission_denied",
    `Permission denied: login token is not accepted: ${why}`,
  );
}
