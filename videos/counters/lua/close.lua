-- Reads the sums of a batch whose fields are all accounted for, or ends it.
--
-- KEYS     claimed, batch
-- ARGV     number of the batch, "1" to end it, "0" to read its sums
-- RETURNS  {applied, repeated, dropped, rejected}; nil if the number is not that of the open batch, or fields are left
--
-- Guarantees: the sums stay readable until the batch is ended, and no other batch is claimed before that. A flush
-- writes them to the database first, so it loses nothing if it dies in between.

local batch = redis.call('HMGET', KEYS[2], 'number', 'open', 'applied', 'repeated', 'dropped', 'rejected')
if batch[1] ~= ARGV[1] or batch[2] ~= '1' or redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
if ARGV[2] == '1' then
  redis.call('HDEL', KEYS[2], 'open')  -- HDEL, because a full Redis refuses HSET
end
return { tonumber(batch[3]), tonumber(batch[4]), tonumber(batch[5]), tonumber(batch[6]) }
