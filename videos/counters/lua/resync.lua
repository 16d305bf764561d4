-- Sets a video's live totals from its row, after rows changed outside a batch. The caller holds the lock of that row.
--
-- KEYS     live, pending, claimed, batch, sums, claimed sums, lives; then liked of each user whose mark changed
-- ARGV     the flush's fence; last: the number of the newest batch that the caller knows; the shard's stamp, read while the row
--          was locked; "1", "0" if the video is gone, or "2" if it was only edited; owner and duration in its row; video;
--          seconds that live stays, that it stays once settled, that liked stays, and that what forget.lua leaves stays; the
--          total of each of COUNTS in the row; then for each user: pending field, value in the rows, time of wish (Unix ms)
-- RETURNS  1 done; 0 nothing done: a batch is claimed, or was claimed since last, or the stamp is another
--
-- Guarantees:
-- - The totals are those of the row now: each call changes the stamp. A call that is held up on its way, until the caller
--   has given up and the row has changed, does nothing once another one has set live.
-- - Live is the row's totals plus what is pending. It is made if there is none: a request that has read the row before it
--   changed would make it from the old totals.
-- - liked keys of before are invalid (`since`): rows may have changed that no note names. An edit leaves them valid.
-- - Of a wish in the rows and a wish in Redis, the later one stands. An older pending field is removed, unless it stays; a
--   newer wish whose pending field was lost gets one again.
-- - It works on a full Redis. Likes that a full Redis refused are in the rows, and only this script ends their notes.

local batch = redis.call('HMGET', KEYS[4], 'fence', 'last', 'open', 'meeting', 'forgotten', 'stamp')
if batch[1] ~= ARGV[1] then
  return unmet()
end
local last = batch[2] or '0'
if last ~= ARGV[2] or batch[3] == '1' or redis.call('EXISTS', KEYS[3]) == 1 or (batch[6] or '0') ~= ARGV[3] then
  return 0
end
local live_ttl, settled_ttl, liked_ttl, forgotten_ttl = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
-- Users without a liked key may have marked the video in the rows. This HDEL is also the harmless first write that a
-- full Redis allows: see shared.lua.
redis.call('HDEL', KEYS[1], 'unmarked_until', 'primed')
local stamp = string.format('%.0f', redis.call('HINCRBY', KEYS[4], 'stamp', 1))
if ARGV[4] == '0' then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'since', stamp, 'born', stamp, 'born_at', redis.call('TIME')[1])
  redis.call('EXPIRE', KEYS[1], forgotten_ttl)
  forget_sums(KEYS[5], ARGV[7])
  forget_sums(KEYS[6], ARGV[7])
  for i = 8, #KEYS do
    redis.call('DEL', KEYS[i])
  end
  return 1
end

local FIRST_TOTAL = 12
local sums = read_sums(KEYS[5], ARGV[7])

-- A pending change from one value to another is added (step 1) or taken out (step -1).
local function move_pending(from, to, step)
  if MARKS[to] then
    sums[MARKS[to]] = (sums[MARKS[to]] or 0) + step
  end
  if MARKS[from] then
    sums[MARKS[from]] = (sums[MARKS[from]] or 0) - step
  end
end

local since = redis.call('HGET', KEYS[1], 'since')
local trusted_from = math.max(tonumber(batch[5] or 0), tonumber(since or 0))
for i = 8, #KEYS do
  local arg = FIRST_TOTAL + WIDTH + (i - 8) * 3
  local field, row, noted = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local pending, pending_at, stays = parse_state(redis.call('HGET', KEYS[2], field))
  local liked, liked_at, liked_stamp = parse_state(redis.call('GET', KEYS[i]))
  if (tonumber(liked_stamp) or -1) < trusted_from then
    liked, liked_at = nil, 0
  end
  local wish, at = pending or liked, math.max(pending_at, liked_at)
  if not wish or at <= tonumber(noted) then
    wish, at = row, tonumber(noted)
  end
  at = string.format('%.0f', at)
  redis.call('SET', KEYS[i], wish .. ':' .. at .. ':' .. stamp, 'EX', liked_ttl)
  if pending then
    move_pending(base_of(pending, stays), pending, -1)
  end
  if wish ~= row or pending and stays ~= '' then
    local batch = pending and at == string.format('%.0f', pending_at) and string.match(stays, 'b%d+$') or ''
    local told = pending and stays ~= '' or base_of(wish, '') ~= row
    redis.call('HSET', KEYS[2], field, wish .. ':' .. at .. (told and ':s' .. row .. batch or ''))
    move_pending(row, wish, 1)
  elseif pending then
    redis.call('HDEL', KEYS[2], field)
  end
end

local fields = {}
for i = 1, WIDTH do
  fields[2 * i - 1], fields[2 * i] = LIVE[i], total_with(ARGV[FIRST_TOTAL - 1 + i], sums[i] or 0)
  if sums[i] then
    redis.call('HSET', KEYS[5], LIVE[i] .. ':' .. ARGV[7], sums[i])
  end
end
redis.call('HSET', KEYS[1], 'owner', ARGV[5], 'duration', ARGV[6], 'meeting', batch[4], unpack(fields))
if ARGV[4] ~= '2' then
  redis.call('HSET', KEYS[1], 'since', stamp)
end
expire_live(KEYS[1], math.max(next(sums) and live_ttl or settled_ttl, liked_ttl), since)
redis.call('SADD', KEYS[7], ARGV[7])
return 1
