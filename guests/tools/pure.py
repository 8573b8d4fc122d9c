"""A pure-Python benchmark: objects, dictionaries, strings, floats, big integers, generators. Prints a result a part."""


class Body:
    """A planet; units as in the classic n-body benchmark."""

    __slots__ = ("x", "y", "z", "vx", "vy", "vz", "mass")

    def __init__(self, x, y, z, vx, vy, vz, mass):
        self.x, self.y, self.z = x, y, z
        self.vx, self.vy, self.vz = vx, vy, vz
        self.mass = mass


def n_body(steps):
    """Floats and attributes."""
    bodies = [
        Body(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 39.478),
        Body(4.841, -1.160, -0.103, 0.606, 2.811, -0.025, 0.0376),
        Body(8.343, 4.124, -0.403, -1.010, 1.825, 0.008, 0.0112),
        Body(12.894, -15.111, -0.223, 1.082, 0.868, -0.010, 0.0017),
    ]
    for _ in range(steps):
        for i, one in enumerate(bodies):
            for other in bodies[i + 1:]:
                dx, dy, dz = one.x - other.x, one.y - other.y, one.z - other.z
                pull = 0.001 / ((dx * dx + dy * dy + dz * dz) ** 1.5)
                one.vx -= dx * other.mass * pull
                one.vy -= dy * other.mass * pull
                one.vz -= dz * other.mass * pull
                other.vx += dx * one.mass * pull
                other.vy += dy * one.mass * pull
                other.vz += dz * one.mass * pull
        for body in bodies:
            body.x += 0.001 * body.vx
            body.y += 0.001 * body.vy
            body.z += 0.001 * body.vz
    return "%.9f" % sum(body.x + body.y + body.z for body in bodies)


def words(count):
    """Strings and dictionaries."""
    seed, counts = 42, {}
    for _ in range(count):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        word = "w%d" % (seed >> 16 & 1023)
        counts[word] = counts.get(word, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ",".join("%s=%d" % item for item in ordered[:5])


def queens(size):
    """Recursion and generators."""

    def place(row, columns, rising, falling):
        if row == size:
            yield 1
            return
        for column in range(size):
            if column not in columns and row + column not in rising and row - column not in falling:
                yield from place(row + 1, columns | {column}, rising | {row + column}, falling | {row - column})

    return sum(place(0, frozenset(), frozenset(), frozenset()))


def digits(count):
    """Big integers: the last digits of a spigot's pi."""
    q, r, t, k, n, l, found = 1, 0, 1, 1, 3, 3, []
    while len(found) < count:
        if 4 * q + r - t < n * t:
            found.append(n)
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2
    return "".join(map(str, found[-10:]))


print(n_body(3000), words(60000), queens(6), digits(400))
