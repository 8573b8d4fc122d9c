/* Chooses the program by the name it is called by, or by the first argument: `sort 1000` or `programs sort 1000`. */
#include "programs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    program *run;
    const char *usage;
} programs[] = {
    {"race", program_race, "[ROUNDS]: two processes increment one variable without a lock and print it"},
    {"signal", program_signal, "[TICKS]: increments a variable in a loop and prints it at each timer signal"},
};

enum { PROGRAM_COUNT = sizeof programs / sizeof programs[0] };

long argument(int argc, char **argv, int index, long otherwise)
{
    if (index >= argc)
        return otherwise;
    char *end;
    errno = 0;
    long value = strtol(argv[index], &end, 10);
    if (errno || *end || end == argv[index] || value < 0) {
        fprintf(stderr, "%s: '%s' is not a number of 0 or more\n", argv[0], argv[index]);
        exit(2);
    }
    return value;
}

void give_up(const char *what)
{
    perror(what);
    exit(2);
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];
    if (!strcmp(name, "programs")) {
        if (argc < 2) {
            fprintf(stderr, "usage: programs NAME [ARGUMENT]..., or programs --list\n");
            return 2;
        }
        name = *++argv;
        argc--;
    }
    if (!strcmp(name, "--list")) {
        for (int i = 0; i < PROGRAM_COUNT; i++)
            puts(programs[i].name);
        return 0;
    }
    for (int i = 0; i < PROGRAM_COUNT; i++) {
        if (strcmp(name, programs[i].name))
            continue;
        if (argc > 1 && !strcmp(argv[1], "--help")) {
            printf("%s %s\n", name, programs[i].usage);
            return 0;
        }
        return programs[i].run(argc, argv);
    }
    fprintf(stderr, "programs: there is no '%s'; see programs --list\n", name);
    return 2;
}
