-- Moves fields of a video from the claimed batch back to pending: another transaction holds the video's row.
--
-- KEYS     claimed, batch, pending, sums, claimed sums, done
-- ARGV     the flush's fence, number of the batch, video, fields
-- RETURNS  1; nil when the number is not that of the claimed batch
--
-- Guarantees:
-- - The caller has recorded in the database that no flush applies this batch to the video any more. Otherwise a flush
--   that had read these fields could apply them, and the next batch would count them again.
-- - Fields keep the number of the batch, and marks stay: see put_back. A user's newer pending mark wins.
-- - done names the video, for a replay of the batch.
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
  moved = moved + put_back(KEYS[1], KEYS[3], ARGV[i], number)
end
redis.call('HSET', KEYS[6], 'postponed:' .. video, 1)
redis.call('HINCRBY', KEYS[2], 'fields', 0 - moved)  -- -moved would be "-0" where nothing was left to move
move_sums(KEYS[5], KEYS[4], video)
return 1
