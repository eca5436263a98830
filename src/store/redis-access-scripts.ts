/**
 * The Lua scripts of access control's records. A record is a field of one hash: `version create modify key`, a line end,
 * and its document. A write in the log is its tip and the fields that it touched, a line each.
 * @module
 */

const PRELUDE = `
local function text(n) return string.format('%.0f', n) end
local function parse(record)
  if not record then return '0', nil, '' end
  local version, create, key = string.match(record, '^(%d+) (%d+) %d+ ([^\\n]*)\\n')
  return version, create, key
end
`;

export const ACCESS_SCRIPTS = {
  /**
   * KEYS access, records, log. ARGV index and tip that the caller has, '' for none.
   * Answers {index, tip, 'same' | 'changes' | 'all', field, record, …}; an empty record is one that is gone.
   */
  accessRead: `${PRELUDE}
local now = redis.call('HMGET', KEYS[1], 'index', 'tip')
local index, tip = now[1] or '0', now[2] or ''
if tip == ARGV[2] and ARGV[1] ~= '' then return {index, tip, 'same'} end
local out = {index, tip, 'changes'}
local function log(i)
  local entry = redis.call('HGET', KEYS[3], text(i))
  if not entry then return nil end
  return string.match(entry, '^([^\\n]*)\\n(.*)$')
end
local from, to = tonumber(ARGV[1]), tonumber(index)
if from and from < to and log(from) == ARGV[2] then
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
out[3] = 'all'
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all do out[#out + 1] = all[i] end
return out`,

  /**
   * KEYS access, records, keys, log. ARGV tip, channel, how many writes the log keeps; then for each change: kind, id,
   * expected version, 'set' or 'delete', key or '', document. Answers {'done', index}, {'version', number of the change}
   * or {'key', number of the change}; anything was written in the first case alone.
   */
  accessWrite: `${PRELUDE}
for i = 4, #ARGV, 6 do
  local version = parse(redis.call('HGET', KEYS[2], ARGV[i] .. '/' .. ARGV[i + 1]))
  if version ~= ARGV[i + 2] then return {'version', text((i - 4) / 6)} end
  if ARGV[i + 3] == 'set' and ARGV[i + 4] ~= '' then
    local owner = redis.call('HGET', KEYS[3], ARGV[i] .. '/' .. ARGV[i + 4])
    if owner and owner ~= ARGV[i + 1] then return {'key', text((i - 4) / 6)} end
  end
end
local next = tonumber(redis.call('HGET', KEYS[1], 'index') or '0') + 1
local index, entry = text(next), ARGV[1] .. '\\n'
for i = 4, #ARGV, 6 do
  local kind, id, key = ARGV[i], ARGV[i + 1], ARGV[i + 4]
  local field = kind .. '/' .. id
  local version, create, old = parse(redis.call('HGET', KEYS[2], field))
  if old ~= '' then redis.call('HDEL', KEYS[3], kind .. '/' .. old) end
  if ARGV[i + 3] == 'set' then
    local record = text(tonumber(version) + 1) .. ' ' .. (create or index) .. ' ' .. index .. ' ' .. key .. '\\n' .. ARGV[i + 5]
    redis.call('HSET', KEYS[2], field, record)
    if key ~= '' then redis.call('HSET', KEYS[3], kind .. '/' .. key, id) end
  else redis.call('HDEL', KEYS[2], field) end
  entry = entry .. field .. '\\n'
end
redis.call('HSET', KEYS[1], 'index', index, 'tip', ARGV[1])
redis.call('HSET', KEYS[4], index, entry)
redis.call('HDEL', KEYS[4], text(next - tonumber(ARGV[3])))
redis.call('PUBLISH', ARGV[2], ARGV[1])
return {'done', index}`,

  /** KEYS access. Answers the tip. */
  accessTip: `return redis.call('HGET', KEYS[1], 'tip') or ''`,

  /**
   * KEYS claim, claims. ARGV milliseconds, id. Answers 1 for the first who asks. The key by itself is what older versions
   * look at; Redis drops it by its clock, which may be ahead for a moment, so that the hash decides.
   */
  claim: `${PRELUDE}
if redis.call('HGET', KEYS[2], ARGV[2]) or not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 0 end
local t = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[2], text(t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])))
return 1`,

  /** KEYS claims. ARGV milliseconds since 1970. Deletes what ended by then. Answers how many. */
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
