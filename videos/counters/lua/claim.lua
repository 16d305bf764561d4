-- Claims what is pending in a shard as a batch, or finds the batch that is still open.
--
-- KEYS     pending, claimed, batch
-- ARGV     floor: the highest batch number that the database knows of this shard; the highest it knows of any shard;
--          now (Unix ms); VIDEOS_SHARDS
-- RETURNS  {number, last, fields, rewound (0 or 1), claimed at (Unix ms)}; number is 0 when nothing is pending
--
-- Guarantees: the number is minted here, above last and every number that the database knows, in the moment in which pending
-- becomes claimed; one batch a shard is open at a time, and the one that is open is finished first, under its own number.
-- Other shards' numbers matter when VIDEOS_SHARDS was changed: the watermark of a video that came from another shard must
-- not be above the number here. The batch keeps that setting, so that one left open under another is finished before
-- higher numbers are minted elsewhere. Where Redis was set back behind the database, forgotten tells up to which number:
-- of a video that became live before it, Redis does not know who likes it.

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
    return { 0, last, 0, 0, 0 }
  end
  redis.call('RENAME', KEYS[1], KEYS[2])
end

local rewound = last < floor and 1 or 0
local number = math.max(last, floor, tonumber(ARGV[2])) + 1
local fields = redis.call('HLEN', KEYS[2])
redis.call('HSET', KEYS[3], 'number', number, 'last', number, 'open', 1, 'fields', fields, 'rewound', rewound,
  'claimed_at', ARGV[3], 'shards', ARGV[4], 'applied', 0, 'repeated', 0, 'dropped', 0, 'rejected', 0)
return { number, number, fields, rewound, tonumber(ARGV[3]) }
