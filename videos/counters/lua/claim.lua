-- Claims the pending changes of a shard as a batch, or finds the batch that is still open.
--
-- KEYS     pending, claimed, batch, sums, claimed sums
-- ARGV     the flush's fence; floor: the highest batch number that the database knows of this shard; the highest it knows
--          of any shard; now (Unix ms)
-- RETURNS  {number, last, fields, rewound (0 or 1), claimed at (Unix ms), previous}; where nothing is pending {0, last, 0, 0,
--          0, tail: the newest closed batch}
--
-- Guarantees:
-- - The number is minted in the moment in which pending becomes claimed. It is above last, and above every number that
--   the database knows.
-- - The sums of what is pending become claimed with it.
-- - Redis may be given older data without a new run id. Then the database knows a newer batch than last, and the two have to
--   meet again. The caller has read floor before, so another flush that claims meanwhile is no reason.
-- - One batch of a shard is open at a time. An open batch is finished first, under its own number.
-- - After a change of VIDEOS_SHARDS, no video has a watermark above the numbers of its new shard: this is why the
--   numbers of other shards matter.
-- - previous is the batch that was closed before this one. The first batch after Redis or the database lost changes is
--   marked rewound.

local batch = redis.call('HMGET', KEYS[3], 'fence', 'number', 'last', 'open', 'fields', 'rewound', 'claimed_at',
  'previous', 'tail', 'lost')
if batch[1] ~= ARGV[1] then
  return unmet()
end
local last = tonumber(batch[3] or 0)
if last < tonumber(ARGV[2]) then
  return unmet()
end
if batch[4] == '1' then
  return { tonumber(batch[2]), last, tonumber(batch[5]), tonumber(batch[6]), tonumber(batch[7]), tonumber(batch[8]) }
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[4])  -- changes that were taken back left zeros
    return { 0, last, 0, 0, 0, tonumber(batch[9] or 0) }
  end
  allow_writes_when_full(KEYS[3])
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('DEL', KEYS[5])
  if redis.call('EXISTS', KEYS[4]) == 1 then
    redis.call('RENAME', KEYS[4], KEYS[5])
  end
end

local number = math.max(last, tonumber(ARGV[2]), tonumber(ARGV[3])) + 1
local fields = redis.call('HLEN', KEYS[2])
local previous, rewound = batch[9] or '0', tonumber(batch[10] or 0)
redis.call('HDEL', KEYS[3], 'lost')
redis.call('HSET', KEYS[3], 'number', number, 'last', number, 'open', 1, 'fields', fields, 'rewound', rewound, 'claimed_at',
  ARGV[4], 'previous', previous, 'applied', 0, 'repeated', 0, 'dropped', 0, 'rejected', 0)
return { number, number, fields, rewound, tonumber(ARGV[4]), tonumber(previous) }
