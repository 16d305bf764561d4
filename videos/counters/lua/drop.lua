-- Drops batches that are kept for a replay.
--
-- KEYS     batch, closed; then done of each batch
-- ARGV     the flush's fence; "1" if live and liked of before are invalid, because the database was set back; "1" if a replay
--          might need the batches, and Redis has no memory for them; then the number of each batch
-- RETURNS  nothing

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
  return unmet()
end
for i = 3, #KEYS do
  redis.call('HDEL', KEYS[2], ARGV[1 + i])
  redis.call('UNLINK', KEYS[i])
end
if ARGV[3] == '1' then
  allow_writes_when_full(KEYS[1])
  redis.call('HSET', KEYS[1], 'unkept', string.format('%.0f', time_ms()))
end
if ARGV[2] == '1' then
  allow_writes_when_full(KEYS[1])
  local stamp = redis.call('HINCRBY', KEYS[1], 'stamp', 1)
  redis.call('HSET', KEYS[1], 'forgotten', stamp, 'meeting', ARGV[1] .. ':' .. stamp)
end
