/**
 * The part of the composition root for runtimes where a connection, a timer and a promise belong to
 * one request, and many isolates serve at once: each request has a CA and a connection of its own,
 * over a memory that all of an isolate share. That memory is data alone. Nothing runs between
 * requests.
 * @module
 */
import { providers } from "../../providers/index.ts";
import type { WorkerSettings } from "../config/worker.ts";
import { hex } from "../core/bytes.ts";
import { CaError, NotReadyError, StoreError } from "../core/errors.ts";
import type { Sealer } from "../core/ports/sealer.ts";
import { SCHEMA } from "../core/state.ts";
import { createSealer } from "../seal/envelope.ts";
import { readKeks } from "../seal/kek.ts";
import type { Backend } from "../store/backend.ts";
import { createCodec } from "../store/codec.ts";
import { createRedisMemory, openRequestRedis } from "../store/redis/request.ts";
import { assemble, beginState, type Ca, createCaMemory, policyOf } from "./ca.ts";
import type { Platform, RequestEnvironment } from "./platform.ts";

export interface Edge {
  /**
   * Answers one request.
   * @param after is handed what goes on behind the answer, and must not be cut off.
   * @throws {CaError} where there is no CA to ask, and none can be made
   */
  fetch(
    request: Request,
    environment: RequestEnvironment,
    after: (work: Promise<unknown>) => void,
  ): Promise<Response>;
  /** Does all that is due, if nobody else leads. @throws {CaError} */
  tick(): Promise<void>;
}

/** What the isolates of a deployment go by among replicas. */
const ADDRESS = "cloudflare-workers";
/**
 * How often a blocked query looks for news, in milliseconds, where others of the isolate did not;
 * up to a quarter is jitter.
 */
const LOOK_MS = 1000;
/**
 * How soon a Redis that was away is asked again, in milliseconds: until then what there is is
 * served without waiting for it.
 */
const RETRY_MS = 1000;

/** One request's share. */
interface Share extends Ca {
  readonly backend: Backend;
}

export function composeEdge(settings: WorkerSettings, platform: Platform): Edge {
  const { store } = settings;
  if (store.kind !== "redis") throw new TypeError("An edge has its state in Redis");
  const { clock, random, log } = platform;
  const policy = { ...policyOf(settings), maxAgeMs: settings.maxAgeMs };
  const memory = createCaMemory(random);
  const redisMemory = createRedisMemory();
  let sealer: Sealer | null = null;
  /** When Redis did not answer, and what was said of it. */
  let away: { readonly at: number; readonly error: StoreError } | null = null;

  const open = async (): Promise<Share> => {
    sealer ??= createSealer(await readKeks(settings.kek ?? ""));
    const codec = createCodec(sealer);
    const backend = openRequestRedis({ settings: store, clock, log, memory: redisMemory });
    const ca = await assemble({
      settings,
      platform,
      providers,
      policy,
      ports: backend.open(codec, `${ADDRESS} ${hex(random.bytes(8))}`),
      codec,
      sealer,
      recollection: null,
      accessRecollection: null,
      // What others have to know is what the deployment can follow, not how many isolates it has.
      self: { id: `${ADDRESS}/${SCHEMA}/${sealer.keks.join()}`, address: ADDRESS },
      memory,
      metrics: null,
      compressed: true,
    });
    return { ...ca, backend };
  };

  /** Takes what is stored, unless it was just asked for. @throws {CaError} */
  const freshen = async ({ manager, accessControl }: Share, signal: AbortSignal): Promise<void> => {
    if (manager.snapshot === null) {
      await manager.start();
      if (manager.snapshot === null) await beginState(manager, platform, signal);
    } else
      await Promise.all([
        manager.freshen(),
        accessControl?.started === true ? accessControl.freshen(policy.maxAgeMs) : null,
      ]);
    if (manager.snapshot !== null) await accessControl?.start();
  };

  /** The same, without waiting for a Redis that was away a moment ago. @throws {CaError} */
  const ready = async (share: Share, signal: AbortSignal): Promise<void> => {
    const since = away === null ? null : clock.now().getTime() - away.at;
    if (away !== null && since !== null && since >= 0 && since < RETRY_MS) throw away.error;
    try {
      await freshen(share, signal);
      away = null;
    } catch (error) {
      if (error instanceof StoreError) away = { at: clock.now().getTime(), error };
      throw error;
    }
  };

  /** Looks for news while a query is blocked. */
  const look = async (share: Share, signal: AbortSignal): Promise<void> => {
    for (;;) {
      await clock.sleep(Math.max(LOOK_MS, policy.maxAgeMs) * (1 + random.fraction() / 4), signal);
      if (signal.aborted) return;
      await ready(share, signal).catch(() => undefined);
    }
  };

  const tickWith = async ({ manager, accessControl }: Share): Promise<void> => {
    while ((await manager.tick()).kind !== "wait");
    if (manager.status.role !== "leader") return;
    await accessControl?.record();
    await accessControl?.collect();
  };

  /** What is left to do behind an answer; it never rejects. */
  const finish = async (share: Share, changed: boolean): Promise<void> => {
    if (changed)
      await tickWith(share).catch((error: unknown) =>
        log.error("Cannot do what is due", {
          reason: error instanceof CaError ? error.message : "unknown",
        }),
      );
    // Whoever led, to make the first state or to do what is due, is gone with this request.
    await share.manager.resign();
    await share.audit?.close();
    share.backend.close();
  };

  const answer: Edge["fetch"] = async (request, environment, after) => {
    const share = await open();
    const before = share.manager.snapshot?.state.commitId;
    const ended = new AbortController();
    try {
      const readying = ready(share, ended.signal);
      // The first state is made also where whoever asked first hangs up.
      if (share.manager.snapshot === null) after(readying.catch(() => undefined));
      await readying.catch((error: unknown) => {
        // What was read last is served for as long as the manager lets it; it says what it thinks
        // of its age itself.
        if (
          !(error instanceof StoreError || error instanceof NotReadyError) ||
          share.manager.snapshot === null
        )
          throw error;
      });
      void look(share, ended.signal);
      return await share.app.fetch(request, environment);
    } finally {
      ended.abort();
      const isRead = request.method === "GET" || request.method === "HEAD";
      after(finish(share, !isRead && share.manager.snapshot?.state.commitId !== before));
    }
  };

  return {
    fetch(request, environment, after) {
      const work = () => answer(request, environment, after);
      // Also what is read from Redis before the app is asked belongs to the request.
      const { requestId } = environment;
      return requestId === undefined ? work() : log.inRequest(requestId, work);
    },
    async tick() {
      const share = await open();
      try {
        await ready(share, new AbortController().signal);
        await tickWith(share);
      } finally {
        await finish(share, false);
      }
    },
  };
}
