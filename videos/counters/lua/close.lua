-- Ends a batch of which every field is accounted for.
--
-- KEYS     claimed, batch
-- ARGV     number of the batch, "1" to end it, "0" to read its sums
-- RETURNS  {applied, repeated, dropped, rejected}; nil when the number is not that of the open batch, or fields are left
--
-- Guarantees: the sums stay readable until the batch is ended, and no other batch is claimed before; so they are written to
-- the database first, and a flusher that dies between the two loses nothing.

local batch = redis.call('HMGET', KEYS[2], 'number', 'open', 'applied', 'repeated', 'dropped', 'rejected')
if batch[1] ~= ARGV[1] or batch[2] ~= '1' or redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
if ARGV[2] == '1' then
  redis.call('HDEL', KEYS[2], 'open')  -- a full Redis refuses HSET here, and a flush is what relieves it
end
return { tonumber(batch[3]), tonumber(batch[4]), tonumber(batch[5]), tonumber(batch[6]) }
