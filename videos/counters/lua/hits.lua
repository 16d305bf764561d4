-- Adds hits to a window that all processes share.
--
-- KEYS     hits
-- ARGV     how many hits, milliseconds that a window lasts
-- RETURNS  hits in the window now, milliseconds until it ends
--
-- Guarantees: a window begins with its first hit, and no key stays without an expiry.

local total = redis.call('INCRBY', KEYS[1], ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  left = tonumber(ARGV[2])
  redis.call('PEXPIRE', KEYS[1], left)
end
return { total, left }
