-- Sets a video's live totals from its row, after rows changed outside a batch. The caller holds the lock of that row.
--
-- KEYS     live, pending, claimed, batch, sums; then liked of each user whose mark changed
-- ARGV     last: the number of the newest batch that the caller knows; "1", or "0" if the video is gone; owner and
--          duration in its row; video; seconds that live stays, that it stays once settled, and that liked stays; the total
--          of each of COUNTS in the row; then for each user: pending field, value in the rows, time of wish (Unix ms)
-- RETURNS  1 done; 0 nothing done: a batch is claimed, or was claimed since last
--
-- Guarantees:
-- - Live is the row's totals plus what is pending. It is made if there is none: a request that has read the row before it
--   changed would make it from the old totals.
-- - Of a wish in the rows and a wish in Redis, the later one stands. An older pending field is removed; a newer wish
--   whose pending field was lost gets one again.
-- - It works on a full Redis. Likes that a full Redis refused are in the rows, and only this script ends their notes.

local batch = redis.call('HMGET', KEYS[4], 'last', 'open')
local last = batch[1] or '0'
if last ~= ARGV[1] or batch[2] == '1' or redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
-- Users without a liked key may have marked the video in the rows. This HDEL is also the harmless first write that a
-- full Redis allows: see shared.lua.
redis.call('HDEL', KEYS[1], 'unmarked_until')
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  forget_sums(KEYS[5], ARGV[5])
  for i = 6, #KEYS do
    redis.call('DEL', KEYS[i])
  end
  return 1
end

local FIRST_TOTAL = 9
local sums = read_sums(KEYS[5], ARGV[5])

-- A pending change from one value to another is added (step 1) or taken out (step -1).
local function move_pending(from, to, step)
  if MARKS[to] then
    sums[MARKS[to]] = (sums[MARKS[to]] or 0) + step
  end
  if MARKS[from] then
    sums[MARKS[from]] = (sums[MARKS[from]] or 0) - step
  end
end

for i = 6, #KEYS do
  local arg = FIRST_TOTAL + WIDTH + (i - 6) * 3
  local field, row, noted = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
  local pending, pending_at = parse_state(redis.call('HGET', KEYS[2], field))
  local liked, liked_at = parse_state(redis.call('GET', KEYS[i]))
  local wish, at = pending or liked, math.max(pending_at, liked_at)
  if not wish or at <= tonumber(noted) then
    wish = row
    redis.call('SET', KEYS[i], row .. ':' .. noted, 'EX', ARGV[8])
  end
  if pending and wish == row then
    redis.call('HDEL', KEYS[2], field)
    move_pending(pending == '0' and '1' or '0', pending, -1)  -- there are two values, so the row had the other one
  elseif not pending and wish ~= row then
    redis.call('HSET', KEYS[2], field, wish .. ':' .. string.format('%d', at))
    move_pending(row, wish, 1)
  end
end

local fields = {}
for i = 1, WIDTH do
  fields[2 * i - 1], fields[2 * i] = LIVE[i], total_with(ARGV[FIRST_TOTAL - 1 + i], sums[i] or 0)
  if sums[i] then
    redis.call('HSET', KEYS[5], LIVE[i] .. ':' .. ARGV[5], sums[i])
  end
end
redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'duration', ARGV[4], unpack(fields))
redis.call('EXPIRE', KEYS[1], next(sums) and ARGV[6] or ARGV[7])
return 1
