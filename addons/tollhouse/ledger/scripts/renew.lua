-- ARGV: lifetime ms, then ids. The code of each; the deadlines of those that are held are moved.
local now = tick()
local deadline, codes = fmt('%.0f', now + tonumber(ARGV[1])), {}
for n = 2, #ARGV do
  local found = find(ARGV[n])
  if found == HELD then call('ZADD', KEYS[3], deadline, ARGV[n]) end
  codes[n - 1] = found
end
return codes
