-- Work that LuaJIT translates: floats, integers, tables, strings, and calls that leave traces.

local function n_queens(size)
  local columns, rising, falling, found = {}, {}, {}, 0
  local function place(row)
    if row > size then found = found + 1 return end
    for column = 1, size do
      if not columns[column] and not rising[row + column] and not falling[row - column + size] then
        columns[column], rising[row + column], falling[row - column + size] = true, true, true
        place(row + 1)
        columns[column], rising[row + column], falling[row - column + size] = false, false, false
      end
    end
  end
  place(1)
  return found
end

local function sieve(limit)
  local composite, count = {}, 0
  for n = 2, limit do
    if not composite[n] then
      count = count + 1
      for m = n * n, limit, n do composite[m] = true end
    end
  end
  return count
end

local function mandelbrot(size)
  local inside = 0
  for row = 0, size - 1 do
    for column = 0, size - 1 do
      local cr, ci, zr, zi, n = column / size * 3 - 2, row / size * 2 - 1, 0, 0, 0
      while n < 100 and zr * zr + zi * zi < 4 do
        zr, zi, n = zr * zr - zi * zi + cr, 2 * zr * zi + ci, n + 1
      end
      if n == 100 then inside = inside + 1 end
    end
  end
  return inside
end

local function words(count)
  local seed, counts = 42, {}
  for _ = 1, count do
    seed = (seed * 16807) % 2147483647
    local word = "w" .. seed % 1024
    counts[word] = (counts[word] or 0) + 1
  end
  local ordered = {}
  for word, number in pairs(counts) do ordered[#ordered + 1] = string.format("%04d%s", number, word) end
  table.sort(ordered)
  return ordered[1] .. "," .. ordered[#ordered]
end

print(n_queens(8), sieve(1000000), mandelbrot(400), words(200000))
