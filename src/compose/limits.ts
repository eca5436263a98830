/**
 * The part of the composition root that fits limits as they are told to those of the API.
 * @module
 */
import type { Settings } from "../config/settings.ts";
import { DEFAULT_HTTP_LIMITS, type HttpLimits } from "../http/limits.ts";

/** The limits as they are told, over the defaults. */
export function httpLimits({
  limits: told,
  plainHttp,
}: Pick<Settings, "limits" | "plainHttp">): HttpLimits {
  const any = Number.POSITIVE_INFINITY;
  // All who come through a proxy would be one client.
  const perClient =
    plainHttp === null
      ? {}
      : {
          connectionsPerClient: any,
          requestsPerClient: any,
          watchersPerClient: any,
          wrongTokensPerClient: any,
        };
  const byDefault = { ...DEFAULT_HTTP_LIMITS, ...perClient };
  return {
    maxUrlLength: told.max_url_length ?? byDefault.maxUrlLength,
    maxBodySign: told.max_body_sign ?? byDefault.maxBodySign,
    maxBodyConfiguration: told.max_body_configuration ?? byDefault.maxBodyConfiguration,
    maxBodyBackup: told.max_body_backup ?? byDefault.maxBodyBackup,
    bodyTimeMs: told.body_time ?? byDefault.bodyTimeMs,
    connectionsPerClient: told.http_max_conns_per_client ?? byDefault.connectionsPerClient,
    requestsPerClient: told.requests_per_client ?? byDefault.requestsPerClient,
    wrongTokensPerClient: told.wrong_tokens_per_client ?? byDefault.wrongTokensPerClient,
    watchersPerClient: told.watchers_per_client ?? byDefault.watchersPerClient,
    watchers: told.watchers ?? byDefault.watchers,
    limitLoopback: [
      told.http_max_conns_per_client,
      told.requests_per_client,
      told.wrong_tokens_per_client,
      told.watchers_per_client,
    ].some((limit) => limit !== undefined),
    requestMode: told.mode ?? byDefault.requestMode,
    readRate: told.read_rate ?? byDefault.readRate,
    writeRate: told.write_rate ?? byDefault.writeRate,
  };
}
