-- Sets a user's mark on a video: a like, or none.
--
-- KEYS     live, liked, pending, claimed, batch, sums; all of the video's shard
-- ARGV     field (l:<video>:<user>), wish (the value of a mark; "0" for none), its time (Unix ms; "" for Redis' own,
--          which all web servers share), seconds that live stays, seconds that liked stays, the state (a value; "" if
--          the caller has not read it from the database), deadline (Unix ms)
-- RETURNS  {1, the total of each of COUNTS} changed; {0, the same} unchanged; {-1, needs} nothing done: needs is 1 for
--          the state, 2 for the video's totals, 3 for both, and 4 times last (prime.lua takes it with the totals);
--          error LATE: the deadline has passed, nothing done
--
-- Guarantees:
-- - The state is that of the pending field, else of the claimed field, else of liked, else the one that the caller has
--   read, which is older than all of them.
-- - The pending field, its sum and the live totals change together, and only if the wish differs from the state. A wish that
--   restores the state at the last claim removes the pending field.
-- - Until unmarked_until, every wish since the video became live without marks is still in liked. A user without a
--   liked key has not marked it then, so a first like needs no query.
-- - Taking a mark back always needs the state: a Redis that was set back may have lost a like whose row exists. A like
--   and its unlike, both between such a loss and the shard's next claim, which notices it, can leave that row behind.

local time = time_ms()
local late = too_late(time, ARGV[7])
if late then
  return late
end
local field, wish = ARGV[1], ARGV[2]
local now = ARGV[3] ~= '' and ARGV[3] or string.format('%.0f', time)
local known_state = ARGV[6] ~= '' and ARGV[6]

local live = redis.call('HMGET', KEYS[1], 'unmarked_until', 'unmarked_last', unpack(LIVE))

local function value_of(state)
  return state and string.match(state, '^%d+')
end

local pending = value_of(redis.call('HGET', KEYS[3], field))
local state = pending or value_of(redis.call('HGET', KEYS[4], field)) or value_of(redis.call('GET', KEYS[2]))
  or known_state
if not state and wish ~= '0' and live[1] and tonumber(redis.call('TIME')[1]) < tonumber(live[1])
  and tonumber(live[2] or -1) >= tonumber(redis.call('HGET', KEYS[5], 'forgotten') or 0) then
  state = '0'
end
local known = live[2 + WIDTH]  -- the newest count: a live key that has it has all
if not state or not known then
  local last = tonumber(redis.call('HGET', KEYS[5], 'last') or 0)
  return { -1, (state and 0 or 1) + (known and 0 or 2) + 4 * last }
end

redis.call('SET', KEYS[2], wish .. ':' .. now, 'EX', ARGV[5])
local result = { state == wish and 0 or 1 }
for place = 1, WIDTH do
  result[1 + place] = tonumber(live[2 + place])
end
if state == wish then
  return result
end

local video = string.match(field, '%d+')
for value, step in pairs({ [state] = -1, [wish] = 1 }) do
  local place = MARKS[value]
  if place then
    result[1 + place] = math.max(result[1 + place] + step, 0)  -- the row may not know a like that was made by hand
    redis.call('HSET', KEYS[1], LIVE[place], result[1 + place])
    redis.call('HINCRBY', KEYS[6], LIVE[place] .. ':' .. video, step)
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[4])

if pending then
  redis.call('HDEL', KEYS[3], field)
else
  redis.call('HSET', KEYS[3], field, wish .. ':' .. now)
end
return result
