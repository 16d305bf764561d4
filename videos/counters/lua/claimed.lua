-- Reads a part of the claimed batch, or of a batch that waits for a replay.
--
-- KEYS     claimed or done, batch
-- ARGV     the flush's fence, number of the claimed batch ("" for done), cursor ("0" to begin), about how many fields
-- RETURNS  {next cursor ("0" at the end), {field, value, ...}}; nil when the number is not that of the claimed batch
--
-- Guarantees: a flush that slept through its batch reads nothing of the next one.

local batch = redis.call('HMGET', KEYS[2], 'fence', 'number')
if batch[1] ~= ARGV[1] then
  return unmet()
end
if ARGV[2] ~= '' and batch[2] ~= ARGV[2] then
  return false
end
return redis.call('HSCAN', KEYS[1], ARGV[3], 'COUNT', ARGV[4])
