/**
 * The Lua scripts of access control's records. A record is a field of one hash:
 * `version create modify key`, a line end, and its document. A write in the log is its tip and the
 * fields that it touched, a line each.
 * @module
 */

const PRELUDE = `
local function text(n) return string.format('%.0f', n) end
local function parse(record)
  if not record then return '0', nil, '' end
  local version, create, key = string.match(record, '^(%d+) (%d+) %d+ ([^\\n]*)\\n')
  return version or 'malformed', create, key or ''
end
`;

export const ACCESS_SCRIPTS = {
  /**
   * KEYS access, records, log. ARGV index and tip that the caller has, '' for none.
   * Answers {index, tip, set document, stop mark, 'same' | 'changes' | 'all', field, record, …}; an
   * empty record is one that is gone.
   */
  accessRead: `${PRELUDE}
local now = redis.call('HMGET', KEYS[1], 'index', 'tip', 'set', 'stop')
local index, tip = now[1] or '0', now[2] or ''
local out = {index, tip, now[3] or '', now[4] or '', 'same'}
if tip == ARGV[2] and ARGV[1] ~= '' then return out end
out[5] = 'changes'
local function log(i)
  local entry = redis.call('HGET', KEYS[3], text(i))
  if not entry then return nil end
  return string.match(entry, '^([^\\n]*)\\n(.*)$')
end
local from, to = tonumber(ARGV[1]), tonumber(index)
if from and to and from < to and to - from <= tonumber(ARGV[3]) and log(from) == ARGV[2] then
  local seen = {}
  for i = from + 1, to do
    local _, fields = log(i)
    for field in string.gmatch(fields or '', '[^\\n]+') do
      if not seen[field] then
        seen[field] = true
        out[#out + 1] = field
        out[#out + 1] = redis.call('HGET', KEYS[2], field) or ''
      end
    end
  end
  return out
end
out[5] = 'all'
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all do out[#out + 1] = all[i] end
return out`,

  /**
   * KEYS access, records, keys, log. ARGV tip, channel, how many writes the log keeps; the set
   * document or '', and with a document the index and tip of the last write and the stop mark
   * that are expected, or all '' to replace whatever is stored, and the index of this write; then
   * for each change: kind, id, expected version, 'set' or 'delete', key or '', document. Answers
   * {'done', index}, {'version', number of the change}, {'key', number of the change}, {'moved',
   * ''} or {'stopped', ''}; only 'done' has written anything.
   */
  accessWrite: `${PRELUDE}
local FIRST = 9
local touched, asked = {}, {}
for i = FIRST, #ARGV, 6 do touched[ARGV[i] .. '/' .. ARGV[i + 1]] = true end
local all = ARGV[4] ~= '' and ARGV[5] == ''
for i = FIRST, #ARGV, 6 do
  local number = text((i - FIRST) / 6)
  if not all then
    local version = parse(redis.call('HGET', KEYS[2], ARGV[i] .. '/' .. ARGV[i + 1]))
    if version ~= ARGV[i + 2] then return {'version', number} end
  end
  if ARGV[i + 3] == 'set' and ARGV[i + 4] ~= '' then
    local key = ARGV[i] .. '/' .. ARGV[i + 4]
    local owner = not all and redis.call('HGET', KEYS[3], key)
    if asked[key] or (owner and owner ~= ARGV[i + 1] and not touched[ARGV[i] .. '/' .. owner]) then return {'key', number} end
    asked[key] = true
  end
end
local last = redis.call('HMGET', KEYS[1], 'index', 'tip', 'stop')
local next = (tonumber(last[1] or '0') or 0) + 1
if all then
  next = tonumber(ARGV[8])
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
elseif ARGV[4] ~= '' then
  if (last[1] or '0') ~= ARGV[5] or (last[2] or '') ~= ARGV[6] then return {'moved', ''} end
  if (last[3] or '') ~= ARGV[7] then return {'stopped', ''} end
  next = tonumber(ARGV[8])
end
local index, entry, made = text(next), ARGV[1] .. '\\n', {}
for i = FIRST, #ARGV, 6 do
  local field = ARGV[i] .. '/' .. ARGV[i + 1]
  local _, create, old = parse(redis.call('HGET', KEYS[2], field))
  made[i] = create or index
  if old ~= '' then redis.call('HDEL', KEYS[3], ARGV[i] .. '/' .. old) end
end
for i = FIRST, #ARGV, 6 do
  local kind, id, key = ARGV[i], ARGV[i + 1], ARGV[i + 4]
  local field = kind .. '/' .. id
  if ARGV[i + 3] == 'set' then
    local record = text(tonumber(ARGV[i + 2]) + 1) .. ' ' .. made[i] .. ' ' .. index .. ' ' .. key .. '\\n' .. ARGV[i + 5]
    redis.call('HSET', KEYS[2], field, record)
    if key ~= '' then redis.call('HSET', KEYS[3], kind .. '/' .. key, id) end
  else redis.call('HDEL', KEYS[2], field) end
  entry = entry .. field .. '\\n'
end
redis.call('HSET', KEYS[1], 'index', index, 'tip', ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'set', ARGV[4])
  redis.call('HDEL', KEYS[1], 'stop')
end
redis.call('HSET', KEYS[4], index, entry)
redis.call('HDEL', KEYS[4], text(next - tonumber(ARGV[3])))
redis.call('PUBLISH', ARGV[2], ARGV[1])
return {'done', index}`,

  /**
   * KEYS access. ARGV stop mark, the tip that the caller has read, the channel. Answers 1 if the
   * mark was set.
   */
  accessStop: `
local now = redis.call('HMGET', KEYS[1], 'tip', 'stop')
if (now[1] or '') ~= ARGV[2] or now[2] == ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'stop', ARGV[1])
redis.call('PUBLISH', ARGV[3], '')
return 1`,

  /** KEYS access. Answers the tip. */
  accessTip: `return redis.call('HGET', KEYS[1], 'tip') or ''`,

  /**
   * KEYS claim, claims. ARGV milliseconds, id, the earliest expiry in milliseconds since 1970.
   * Answers 1 to the first request. Only older versions read the key; Redis expires it by its
   * clock, which may be ahead for a moment, so that the hash decides.
   */
  claim: `${PRELUDE}
if redis.call('HGET', KEYS[2], ARGV[2]) or not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 0 end
local t = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[2], text(math.max(t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1]), tonumber(ARGV[3]))))
return 1`,

  /** KEYS claims. ARGV milliseconds since 1970. Deletes claims expired by then. Answers how many. */
  forgetClaims: `
local all, count = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) <= tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], all[i])
    count = count + 1
  end
end
return count`,
};
