-- Reads the sums of a batch whose fields are all accounted for, or closes it.
--
-- KEYS     claimed, batch, closed
-- ARGV     the flush's fence, number of the batch, "1" to close it, "0" to read its sums
-- RETURNS  {applied, repeated, dropped, rejected}; nil if the number is not that of the open batch, or fields are left
--
-- Guarantees: the sums stay readable until the batch is closed, and no other batch is claimed before that. A flush
-- writes them to the database first, so it loses nothing if it dies in between. What the batch held stays in done, and
-- closed has the time (Unix ms, the server's) and the number of the batch before it.

local batch = redis.call('HMGET', KEYS[2], 'fence', 'number', 'open', 'applied', 'repeated', 'dropped', 'rejected',
  'previous')
if batch[1] ~= ARGV[1] then
  return unmet()
end
if batch[2] ~= ARGV[2] or batch[3] ~= '1' or redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
if ARGV[3] == '1' then
  allow_writes_when_full(KEYS[2])
  redis.call('HDEL', KEYS[2], 'open')
  redis.call('HSET', KEYS[2], 'tail', ARGV[2])
  redis.call('HSET', KEYS[3], ARGV[2], string.format('%.0f', time_ms()) .. ':' .. batch[8])
end
return { tonumber(batch[4]), tonumber(batch[5]), tonumber(batch[6]), tonumber(batch[7]) }
