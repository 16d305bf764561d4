-- A user's wish to like a video, or not.
--
-- KEYS     live, liked, pending, claimed, batch; all of the video's shard
-- ARGV     field ("l:<video>:<user>"), wish ("1" or "0"), now (Unix ms), seconds that live stays, seconds that liked stays,
--          and, where it was read from the database, the state ("1" or "0")
-- RETURNS  {1, likes} changed; {0, likes} it was so already; {-1, needs} nothing done: needs is 1 for the like's state,
--          2 for the video's counts (prime.lua takes them), 3 for both
--
-- Guarantees: the state now is that of the pending field, else the claimed field, else liked, else what was read, which
-- is older than all of them. The pending field and the live count move together, by one, only when the wish differs
-- from the state; a wish that returns to where the batch began leaves no pending field. Of a video that had no likes
-- when it became live, a user of whom nothing is known may like it without the database being asked: until
-- unliked_until every wish since then is still in liked, since liked keys stay longer. An unlike asks: if Redis was set
-- back to an older state, the row may have a like that Redis has forgotten. Only a like and its unlike between such a
-- loss and the shard's next claim, which notices it, can leave that row behind.

local field, wish, now = ARGV[1], ARGV[2], ARGV[3]

local function state_in(value)
  local state = value and string.sub(value, 1, 1)
  return (state == '1' or state == '0') and state or nil
end

local pending = state_in(redis.call('HGET', KEYS[3], field))
local state = pending or state_in(redis.call('HGET', KEYS[4], field)) or state_in(redis.call('GET', KEYS[2])) or ARGV[6]
local live = redis.call('HMGET', KEYS[1], 'likes', 'epoch', 'likes_pending', 'unliked_until', 'unliked_last')
if not state and wish == '1' and live[4] and tonumber(redis.call('TIME')[1]) < tonumber(live[4])
  and tonumber(live[5] or -1) >= tonumber(redis.call('HGET', KEYS[5], 'forgotten') or 0) then
  state = '0'
end

if not state or not live[1] then
  return { -1, (state and 0 or 1) + (live[1] and 0 or 2) }
end

redis.call('SET', KEYS[2], wish .. ':' .. now, 'EX', ARGV[5])
if state == wish then
  return { 0, tonumber(live[1]) }
end

local move = wish == '1' and 1 or -1
local likes = tonumber(live[1]) + move
local last = redis.call('HGET', KEYS[5], 'last') or '0'
if live[2] == last then
  redis.call('HSET', KEYS[1], 'likes', likes, 'likes_pending', tonumber(live[3]) + move)
else
  redis.call('HSET', KEYS[1], 'likes', likes, 'epoch', last, 'likes_pending', move, 'views_pending', 0)
end
redis.call('EXPIRE', KEYS[1], ARGV[4])

if pending then
  redis.call('HDEL', KEYS[3], field)
else
  redis.call('HSET', KEYS[3], field, wish .. ':' .. now)
end
return { 1, likes }
