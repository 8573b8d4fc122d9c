/* Chooses the program by the name it is called by, or by the first argument: `sorting 1000` or `programs sorting 1000`. */
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
    {"code", program_code, ": writes code and runs it, in every way there is"},
    {"floats", program_floats, ": floating point, x87 and SSE, to the bit"},
    {"vectors", program_vectors, ": packed and integer instructions of x86-64-v2"},
    {"wide", program_wide, ": vector and integer instructions that x86-64-v3 adds"},
    {"faults", program_faults, ": the signal that each kind of fault brings"},
    {"sleepy", program_sleepy, "[MILLISECONDS [TIMES]]: sleeps and says so"},
    {"processor", program_processor, ": what CPUID announces, and the time stamp counter's rate"},
};

/* Each prints its name and its result. A size for a second or so on a fast processor is the default. */
static const struct {
    const char *name;
    workload *run;
    long usual_size;
} workloads[] = {
    {"sorting", workload_sort, 5000000},
    {"hashing", workload_hash, 30000000},
    {"list", workload_list, 200000000},
    {"crc", workload_crc, 300000000},
    {"matrix", workload_matrix, 400},
    {"libm", workload_libm, 20000000},
    {"x87", workload_x87, 100000000},
    {"indirect", workload_indirect, 150000000},
    {"recursion", workload_recursion, 41},
    {"copy", workload_copy, 1000000},
    {"string", workload_string, 5000000},
    {"branches", workload_branches, 100000000},
    {"busy", workload_busy, 2000000000},
    {"syscalls", workload_syscall, 5000000},
    {"pipes", workload_pipe, 50000},
    {"forks", workload_fork, 3000},
    {"execs", workload_exec, 1000},
    {"touches", workload_fault, 500000},
    {"signals", workload_signals, 300000},
};

enum { WORKLOAD_COUNT = sizeof workloads / sizeof workloads[0] };

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

void *allocate(unsigned long len_bytes)
{
    void *memory = calloc(len_bytes, 1);
    if (!memory)
        give_up("calloc");
    return memory;
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
        for (int i = 0; i < WORKLOAD_COUNT; i++)
            puts(workloads[i].name);
        return 0;
    }
    if (!strcmp(name, "true")) /* for the workload that starts programs */
        return 0;
    for (int i = 0; i < PROGRAM_COUNT; i++) {
        if (strcmp(name, programs[i].name))
            continue;
        if (argc > 1 && !strcmp(argv[1], "--help")) {
            printf("%s%s%s\n", name, *programs[i].usage == ':' ? "" : " ", programs[i].usage);
            return 0;
        }
        return programs[i].run(argc, argv);
    }
    for (int i = 0; i < WORKLOAD_COUNT; i++) {
        if (strcmp(name, workloads[i].name))
            continue;
        if (argc > 1 && !strcmp(argv[1], "--help")) {
            printf("%s [SIZE]: a workload; prints its result, which follows from the size\n", name);
            return 0;
        }
        long size = argument(argc, argv, 1, workloads[i].usual_size);
        printf("%s %llx\n", name, (unsigned long long)workloads[i].run(size));
        return 0;
    }
    fprintf(stderr, "programs: there is no '%s'; see programs --list\n", name);
    return 2;
}
