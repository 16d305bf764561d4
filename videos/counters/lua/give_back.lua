-- Moves fields of a video from the claimed batch back to pending: another transaction holds the video's row.
--
-- KEYS     claimed, batch, pending, sums, claimed sums
-- ARGV     the flush's fence, number of the batch, video, fields
-- RETURNS  fields moved; nil when the number is not that of the claimed batch
--
-- Guarantees:
-- - The caller has recorded in the database that no flush applies this batch to the video any more. Otherwise a flush
--   that had read these fields could apply them, and the next batch would count them again.
-- - A user's pending field restores the state from before the claimed one: both go, unless one of them stays. Views of an
--   hour are added up.
-- - Live stays as it is: it contains what is claimed and what is pending.

local number, video = ARGV[2], ARGV[3]
local batch = redis.call('HMGET', KEYS[2], 'fence', 'number')
if batch[1] ~= ARGV[1] then
  return unmet()
end
if batch[2] ~= number then
  return false
end
allow_writes_when_full(KEYS[2])

local moved = 0
for i = 4, #ARGV do
  local field = ARGV[i]
  local value = redis.call('HGET', KEYS[1], field)
  if value then
    if string.sub(field, 1, #MARK) ~= MARK then
      redis.call('HINCRBY', KEYS[3], field, value)
    else
      local newer, newer_at, newer_stays = parse_state(redis.call('HGET', KEYS[3], field))
      local older, _, older_stays = parse_state(value)
      if not newer then
        redis.call('HSET', KEYS[3], field, value)
      elseif older and (newer_stays .. older_stays) ~= '' then
        redis.call('HSET', KEYS[3], field,
          newer .. ':' .. string.format('%.0f', newer_at) .. ':s' .. base_of(older, older_stays))
      else
        redis.call('HDEL', KEYS[3], field)
      end
    end
    moved = moved + redis.call('HDEL', KEYS[1], field)
  end
end
redis.call('HINCRBY', KEYS[2], 'fields', 0 - moved)  -- -moved would be "-0" where nothing was left to move
for place, sum in pairs(read_sums(KEYS[5], video)) do
  redis.call('HINCRBY', KEYS[4], LIVE[place] .. ':' .. video, sum)
end
forget_sums(KEYS[5], video)
return moved
