-- KEYS: as for objects_add. ARGV: how long an object is kept, ms; digests. Gives the places of those
-- that are not the tenant's, counted from 0. If all are, those are kept anew that were not used for
-- a day.
local now = read_clock()
local ends = now + tonumber(ARGV[1])
local missing, renewed = {}, {}
for i = 2, #ARGV do
  local until_ms = tonumber(call('ZSCORE', KEYS[2], ARGV[i]) or '0')
  if until_ms <= now then missing[#missing + 1] = i - 2
  elseif until_ms < ends - DAY_MS then renewed[#renewed + 1] = ARGV[i] end
end
if #missing > 0 then return missing end
for _, digest in ipairs(renewed) do call('ZADD', KEYS[2], fmt('%.0f', ends), digest) end
if #renewed > 0 then call('PEXPIRE', KEYS[2], ARGV[1]) end
return missing
