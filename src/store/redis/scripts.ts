/**
 * The Lua scripts: everything that reads or writes in Redis, each one atomic. Arguments are text,
 * answers are text, integers and arrays of them. The keys are those of keys.ts; what they hold is
 * in docs/storage.md.
 * @module
 */
import { LEASE_SLACK_MS } from "../../core/ports/lease.ts";
import { ACCESS_SCRIPTS } from "./acl-scripts.ts";

/** Redis's clock in milliseconds since 1970, and a number as text without an exponent. */
const PRELUDE = `
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local function text(n) return string.format('%.0f', n) end
`;

export const SCRIPTS = {
  ...ACCESS_SCRIPTS,

  /**
   * KEYS state, lease:operation, stop. ARGV the commit id that the caller has the state of, or ''.
   * Answers {index, commit id, term, commit id in the stop mark, document or '' if the caller has
   * it}.
   */
  read: `
local state = redis.call('HMGET', KEYS[1], 'index', 'commit')
local commit = state[2] or ''
local document = ''
if commit ~= ARGV[1] then document = redis.call('HGET', KEYS[1], 'document') or '' end
return {state[1] or '0', commit, redis.call('HGET', KEYS[2], 'term') or '0', redis.call('HGET', KEYS[3], 'commit') or '', document}`,

  /**
   * KEYS state, lease:operation, stop. ARGV next index, next commit id, document; expected index,
   * commit id, term, commit id in the stop mark; the channel. Answers {index, commit id, term,
   * commit id in the stop mark} as they were: the write was made if they are the expected ones.
   */
  commit: `
local state = redis.call('HMGET', KEYS[1], 'index', 'commit')
local index, commit = state[1] or '0', state[2] or ''
local term = redis.call('HGET', KEYS[2], 'term') or '0'
local stop = redis.call('HGET', KEYS[3], 'commit') or ''
if term == ARGV[6] and stop == ARGV[7] and index == ARGV[4] and commit == ARGV[5] then
  redis.call('HSET', KEYS[1], 'index', ARGV[1], 'commit', ARGV[2], 'term', ARGV[6], 'document', ARGV[3])
  if stop ~= '' then
    local high = redis.call('HGET', KEYS[3], 'term')
    if tonumber(high) > tonumber(term) then redis.call('HSET', KEYS[2], 'term', high, 'holder', '', 'expires', '0') end
    redis.call('DEL', KEYS[3])
  end
  redis.call('PUBLISH', ARGV[8], ARGV[2])
end
return {index, commit, term, stop}`,

  /**
   * KEYS stop, state. ARGV index, commit id, term, document, reason, by; the channel; the commit id
   * that must be stored. Answers 1 if the mark was replaced.
   */
  stop: `${PRELUDE}
if (redis.call('HGET', KEYS[2], 'commit') or '') ~= ARGV[8] then return 0 end
local mark = redis.call('HMGET', KEYS[1], 'index', 'term')
local term = math.max(tonumber(ARGV[3]), tonumber(mark[2] or '0'))
if mark[1] and tonumber(mark[1]) >= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'term', text(term))
  return 0
end
redis.call('HSET', KEYS[1], 'index', ARGV[1], 'commit', ARGV[2], 'term', text(term), 'document', ARGV[4], 'reason', ARGV[5], 'by', ARGV[6], 'at', text(now()))
redis.call('PUBLISH', ARGV[7], ARGV[2])
return 1`,

  /**
   * KEYS state, stop. ARGV 1 to have the document. Answers {1, document or ''} of the state, or of
   * the stop mark if there is no state; {'', ''} if there is neither.
   */
  held: `
for i = 1, 2 do
  local found = redis.call('HMGET', KEYS[i], 'commit', 'document')
  if found[1] or found[2] then return {'1', ARGV[1] == '1' and found[2] or ''} end
end
return {'', ''}`,

  /** KEYS stop. Answers {} or {document, term, reason, by, at}. */
  mark: `
local mark = redis.call('HMGET', KEYS[1], 'document', 'term', 'reason', 'by', 'at')
if mark[1] then return mark end
return {}`,

  /** KEYS any. Answers milliseconds since 1970 as text. */
  now: `${PRELUDE} return text(now())`,

  /**
   * KEYS lease. ARGV holder, milliseconds, the number of the holder's request, that of its last
   * request if it got no answer or ''. Answers the term, or 0 if the lease is held. A lease that the
   * last request was granted is free, since its holder does not know its term. So is one that
   * expires so far off that the clock was set back since (isOff in core/ports/lease.ts).
   */
  acquire: `${PRELUDE}
local lease = redis.call('HMGET', KEYS[1], 'holder', 'term', 'expires', 'request')
local mine = ARGV[4] ~= '' and lease[1] == ARGV[1] and lease[4] == ARGV[4]
local left = tonumber(lease[3] or '0') - now()
if lease[1] and lease[1] ~= '' and left > 0 and left <= 2 * tonumber(ARGV[2]) + ${LEASE_SLACK_MS} and not mine then return '0' end
local term = text(tonumber(lease[2] or '0') + 1)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'term', term, 'expires', text(now() + tonumber(ARGV[2])), 'request', ARGV[3])
return term`,

  /**
   * KEYS lease. ARGV holder, term, milliseconds. Answers 1 if the holder had it under that term.
   */
  renew: `${PRELUDE}
local lease = redis.call('HMGET', KEYS[1], 'holder', 'term', 'expires')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] or tonumber(lease[3]) <= now() then return 0 end
redis.call('HSET', KEYS[1], 'expires', text(now() + tonumber(ARGV[3])))
return 1`,

  /** KEYS lease. ARGV holder, term. */
  release: `
local lease = redis.call('HMGET', KEYS[1], 'holder', 'term')
if lease[1] == ARGV[1] and lease[2] == ARGV[2] then redis.call('HSET', KEYS[1], 'holder', '', 'expires', '0') end
return 0`,

  /** KEYS lease. Answers the holder, or ''. */
  holder: `${PRELUDE}
local lease = redis.call('HMGET', KEYS[1], 'holder', 'expires')
if lease[1] and lease[1] ~= '' and tonumber(lease[2]) > now() then return lease[1] end
return ''`,

  /**
   * KEYS replicas. ARGV id, heartbeat, milliseconds. Answers the heartbeat of each live replica. A
   * heartbeat from the future was sent before the clock was set back, and is deleted: a live replica
   * sends another one.
   */
  announce: `${PRELUDE}
local time = now()
redis.call('HSET', KEYS[1], ARGV[1], text(time + tonumber(ARGV[3])) .. ' ' .. ARGV[3] .. ' ' .. ARGV[2])
local all, live = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local expires, ttl, replica = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
  if expires and tonumber(expires) > time and tonumber(expires) - tonumber(ttl) <= time then live[#live + 1] = replica else redis.call('HDEL', KEYS[1], all[i]) end
end
return live`,

  /** KEYS replicas. ARGV id. */
  leave: `redis.call('HDEL', KEYS[1], ARGV[1]) return 0`,

  /** KEYS looks. Answers the stored looks at the clock, or ''. */
  looks: `return redis.call('HGET', KEYS[1], 'looks') or ''`,

  /**
   * KEYS looks. ARGV the expected looks or '', the next ones. Answers 1 if they were written.
   */
  saveLooks: `
if (redis.call('HGET', KEYS[1], 'looks') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'looks', ARGV[2])
return 1`,

  /** KEYS leaves. Answers the stored leaf counts, or ''. */
  leaves: `return redis.call('HGET', KEYS[1], 'counts') or ''`,

  /**
   * KEYS leaves. ARGV the expected counts or '', the next ones. Answers 1 if they were written.
   */
  saveLeaves: `
if (redis.call('HGET', KEYS[1], 'counts') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'counts', ARGV[2])
return 1`,

  /** KEYS looks. Answers the last backup, or ''. */
  backup: `return redis.call('HGET', KEYS[1], 'backup') or ''`,

  /** KEYS looks. ARGV when the backup was made, in milliseconds; the backup. Answers 1 if it is the last. */
  saveBackup: `
local at = tonumber(redis.call('HGET', KEYS[1], 'backup_at') or '') or 0
if at > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'backup', ARGV[2], 'backup_at', ARGV[1])
return 1`,

  /**
   * KEYS probe. ARGV the channel. Tries every command of the other scripts, since Redis does not
   * name the command that a script is not allowed to run. Answers {} or {command, error}.
   */
  probe: `
local tries = {
  {'TIME'}, {'HSET', KEYS[1], 'probe', '1'}, {'HMGET', KEYS[1], 'probe'}, {'HGET', KEYS[1], 'probe'}, {'HGETALL', KEYS[1]},
  {'HDEL', KEYS[1], 'probe'}, {'DEL', KEYS[1]}, {'SET', KEYS[1], '1', 'NX', 'PX', '1'}, {'DEL', KEYS[1]},
  {'PUBLISH', ARGV[1], ''},
}
for _, try in ipairs(tries) do
  local answer = redis.pcall(unpack(try))
  if type(answer) == 'table' and answer.err then return {try[1], answer.err} end
end
return {}`,
};
