-- What a flush compares with the database first: the batches that are closed and kept for a replay.
--
-- KEYS     batch, closed, pending, claimed, sums
-- RETURNS  {fence, last, tail: the number of the newest closed batch, "1" if a batch is open, now (Unix ms, the server's),
--          how many of pending, claimed and sums there are,
--          {number, "<closed at (Unix ms)>:<the batch before it>", ...}}

local batch = redis.call('HMGET', KEYS[1], 'fence', 'last', 'tail', 'open')
if not batch[1] then
  return unmet()
end
return { tonumber(batch[1]), tonumber(batch[2] or 0), tonumber(batch[3] or 0), tonumber(batch[4] or 0),
  tonumber(string.format('%.0f', time_ms())), redis.call('EXISTS', KEYS[3], KEYS[4], KEYS[5]),
  redis.call('HGETALL', KEYS[2]) }
