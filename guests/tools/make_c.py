"""Writes a large C file to standard output, the same each time: what gcc compiles and the compressors compress.

It needs no header, so that the compiler proper is enough, and has what real code has: structures, tables, loops,
switches, strings, recursion, floating point and calls between functions.
"""

FUNCTIONS = 60


class Dice:
    """A small generator of its own, so that no version of Python changes the file."""

    def __init__(self):
        self.state = 1

    def roll(self, sides):
        self.state = self.state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        return (self.state >> 33) % sides


def expression(dice, depth):
    """An expression in `a`, `b` and `n`, whose divisions are by no zero."""
    if depth == 0:
        return ("a", "b", "n", "%du" % dice.roll(1000), "table[a & 15]")[dice.roll(5)]
    left, right = expression(dice, depth - 1), expression(dice, depth - 1)
    return (
        "(%s + %s)", "(%s - %s)", "(%s * %s)", "(%s ^ %s)", "(%s & %s)", "(%s | %s)", "(%s / (%s | 1))", "(%s >> (%s & 7))",
    )[dice.roll(8)] % (left, right)


def function(dice, number):
    """One function, which calls some of those before it."""
    lines = ["/* Part %d of %d. */" % (number, FUNCTIONS)]
    lines.append("static __attribute__((noinline)) unsigned part%d(struct record *record, unsigned a, unsigned b)" % number)
    lines.append("{")
    lines.append("    unsigned n = %s;" % expression(dice, 1).replace("n", "3u"))
    lines.append("    for (unsigned i = 0; i < (a & %d); i++) {" % (dice.roll(30) + 1))
    lines.append("        n += %s;" % expression(dice, 3))
    lines.append("        record->values[i %% COUNT] ^= %s;" % expression(dice, 2))
    lines.append("    }")
    lines.append("    switch (n %% %d) {" % (dice.roll(5) + 3))
    for case in range(dice.roll(5) + 3):
        lines.append("    case %d: record->sum += %s; break;" % (case, expression(dice, 2)))
    lines.append("    default: record->mean = record->mean * 0.5 + n / %d.0; break;" % (dice.roll(9) + 1))
    lines.append("    }")
    for _ in range(2):
        if number > 0:
            other = dice.roll(number)
            lines.append("    if (%s > b)" % expression(dice, 2))
            lines.append("        n ^= part%d(record, a >> 1, %s);" % (other, expression(dice, 1)))
    lines.append("    return n + (unsigned)record->name[n % sizeof record->name];")
    lines.append("}")
    return "\n".join(lines)


def main():
    """The whole file."""
    dice = Dice()
    print("/* Made by make_c.py. */")
    print("enum { COUNT = 32 };")
    print("struct record { unsigned values[COUNT]; unsigned long sum; double mean; char name[24]; };")
    print("static const unsigned table[16] = { %s };" % ", ".join(str(dice.roll(1 << 31)) for _ in range(16)))
    for number in range(FUNCTIONS):
        print()
        print(function(dice, number))
    print()
    print("unsigned all(struct record *record, unsigned a, unsigned b)")
    print("{")
    print("    unsigned n = 0;")
    for number in range(FUNCTIONS):
        print("    n += part%d(record, a + %d, b);" % (number, number))
    print("    return n;")
    print("}")


main()
