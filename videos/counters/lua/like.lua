-- Sets a user's mark on a video: a like, a dislike, or none.
--
-- KEYS     live, liked, pending, claimed, batch, sums; all of the video's shard
-- ARGV     field (l:<video>:<user>), wish (the value of a mark; "0" for none), its time (Unix ms; "" for Redis' own,
--          which all web servers share), seconds that live stays, seconds that liked stays; the state (a value) and the
--          version that it was read under, or "" and "" if the caller has not read it from the database; deadline (Unix ms)
-- RETURNS  {1, the total of each of COUNTS} changed; {0, the same} unchanged; {-1, needs, version} nothing done: needs is 1
--          for the state, 2 for the video's totals (prime.lua takes them), 3 for both;
--          error LATE: the deadline has passed, nothing done
--
-- Guarantees:
-- - The state is that of the pending field, else of the claimed field, else of liked if that is trusted, else the one
--   that the caller has read, which is older than all of them, if no meeting took place since.
-- - The pending field, its sum and the live totals change together. Each wish leaves a pending field, also one that changes
--   nothing or restores the state at the last claim: the rows may have got another wish since, while Redis did not answer,
--   and liked does not tell the flush for as long as it may be late.
-- - Until unmarked_until, every wish since the video became live without marks is still in liked. A user without a
--   liked key has not marked it then, so a first like needs no query.
-- - The field stays (":s" and the state at the last claim), whatever else is known, unless the wish changes a state that Redis
--   is sure of. The database's word is not sure, because it may have been set back: nor are a state and a live (primed) that
--   came from it.

local time = time_ms()
local late = too_late(time, ARGV[8])
if late then
  return late
end
local field, wish = ARGV[1], ARGV[2]
local now = ARGV[3] ~= '' and ARGV[3] or string.format('%.0f', time)

local batch = redis.call('HMGET', KEYS[5], 'fence', 'last', 'meeting', 'forgotten', 'stamp')
if not batch[1] then
  return unmet()
end
local last = batch[2] or '0'
local live = redis.call('HMGET', KEYS[1], 'meeting', 'primed', 'since', 'unmarked_until', unpack(LIVE))
local known = live[1] == batch[3] and live[4 + WIDTH]  -- the newest count: a live key that has it has all

local pending, _, stays = parse_state(redis.call('HGET', KEYS[3], field))
local state = pending or parse_state(redis.call('HGET', KEYS[4], field))
local told = known and live[2]
if not state then
  local liked, _, stamp = parse_state(redis.call('GET', KEYS[2]))
  if liked and (tonumber(stamp) or -1) >= math.max(tonumber(batch[4] or 0), tonumber(live[3] or 0)) then
    state = liked
  elseif ARGV[6] ~= '' and string.match(ARGV[7], '%d+$') == batch[1] then
    state, told = ARGV[6], true
  elseif known and wish ~= '0' and live[4] and time < 1000 * tonumber(live[4]) then
    state, told = '0', true
  end
end
if not state or not known then
  return { -1, (state and 0 or 1) + (known and 0 or 2), last .. ':' .. batch[1] }
end

redis.call('SET', KEYS[2], wish .. ':' .. now .. ':' .. (batch[5] or 0), 'EX', ARGV[5])
local result = { state == wish and 0 or 1 }
for place = 1, WIDTH do
  result[1 + place] = tonumber(live[4 + place])
end
if state ~= wish then
  local video = string.match(field, '%d+')
  for value, step in pairs({ [state] = -1, [wish] = 1 }) do
    local place = MARKS[value]
    if place then
      result[1 + place] = math.max(result[1 + place] + step, 0)  -- the row may not know a like that was made by hand
      redis.call('HSET', KEYS[1], LIVE[place], result[1 + place])
      redis.call('HINCRBY', KEYS[6], LIVE[place] .. ':' .. video, step)
    end
  end
end
expire_live(KEYS[1], tonumber(ARGV[4]), live[3])

local base = pending and base_of(pending, stays) or state
local is_sure = state ~= wish and not pending and not told and base_of(wish, '') == base
redis.call('HSET', KEYS[3], field, wish .. ':' .. now .. (is_sure and '' or ':s' .. base))
return result
