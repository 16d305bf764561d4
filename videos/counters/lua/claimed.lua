-- Reads a part of the claimed batch.
--
-- KEYS     claimed, batch
-- ARGV     number of the batch, cursor ("0" to begin), about how many fields
-- RETURNS  {next cursor ("0" at the end), {field, value, ...}}; nil when the number is not that of the claimed batch
--
-- Guarantees: a flush that slept through its batch reads nothing of the next one.

if redis.call('HGET', KEYS[2], 'number') ~= ARGV[1] then
  return false
end
return redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
