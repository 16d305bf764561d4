-- Starts the time anew for which a batch is kept: the database has just taken it in again.
--
-- KEYS     batch, closed
-- ARGV     the flush's fence, number
-- RETURNS  nothing

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return unmet()
end
local previous = string.match(redis.call('HGET', KEYS[2], ARGV[2]) or '', ':(%d+)$')
if previous then
  allow_writes_when_full(KEYS[2])
  redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', time_ms()) .. ':' .. previous)
end
