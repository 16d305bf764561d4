-- Claims the pending changes of a shard as a batch, or finds the batch that is still open.
--
-- KEYS     pending, claimed, batch, sums, claimed sums
-- ARGV     floor: the highest batch number that the database knows of this shard; the highest it knows of any shard;
--          now (Unix ms); VIDEOS_SHARDS
-- RETURNS  {number, last, fields, rewound (0 or 1), claimed at (Unix ms)}; number is 0 when nothing is pending
--
-- Guarantees:
-- - The number is minted in the moment in which pending becomes claimed. It is above last, and above every number that
--   the database knows.
-- - The sums of what is pending become claimed with it.
-- - One batch of a shard is open at a time. An open batch is finished first, under its own number.
-- - After a change of VIDEOS_SHARDS, no video has a watermark above the numbers of its new shard: this is why the
--   numbers of other shards matter. The batch stores the setting, so that a batch left open under another setting is
--   finished before any higher number is minted.
-- - If Redis was set back behind the database, forgotten holds the highest number that it lost. Of a video that became
--   live before that batch, Redis does not know who likes it.

local batch = redis.call('HMGET', KEYS[3], 'number', 'last', 'open', 'fields', 'rewound', 'claimed_at')
local last = tonumber(batch[2] or 0)
local floor = tonumber(ARGV[1])

if last < floor then
  allow_writes_when_full(KEYS[3])
  redis.call('HSET', KEYS[3], 'forgotten', floor)
end
if batch[3] == '1' then
  return { tonumber(batch[1]), last, tonumber(batch[4]), tonumber(batch[5]), tonumber(batch[6]) }
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[4])  -- changes that were taken back left zeros
    return { 0, last, 0, 0, 0 }
  end
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('DEL', KEYS[5])
  if redis.call('EXISTS', KEYS[4]) == 1 then
    redis.call('RENAME', KEYS[4], KEYS[5])
  end
end

local rewound = last < floor and 1 or 0
local number = math.max(last, floor, tonumber(ARGV[2])) + 1
local fields = redis.call('HLEN', KEYS[2])
redis.call('HSET', KEYS[3], 'number', number, 'last', number, 'open', 1, 'fields', fields, 'rewound', rewound,
  'claimed_at', ARGV[3], 'shards', ARGV[4], 'applied', 0, 'repeated', 0, 'dropped', 0, 'rejected', 0)
return { number, number, fields, rewound, tonumber(ARGV[3]) }
