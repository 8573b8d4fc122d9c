/* The programs of the default guest are linked into one binary, which a C library linked in once keeps small.
 *
 * Each program is a function like main(). It prints a result that follows from its arguments alone, unless it exists to show
 * what does not; so the output of a machine can be compared with the host's. */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#include <stdint.h>
#include <stdnoreturn.h>

typedef int program(int argc, char **argv);

/* The experiments of the ReVirt paper (section 4.1): these differ from run to run, and a replay must not. */
program program_race, program_signal;

/* Programs with one result on every processor. */
program program_code, program_floats, program_vectors, program_wide, program_faults;

/* Programs that show something: idleness; what the processor says of itself. */
program program_sleepy, program_processor;

/* Workloads, to measure speed with: `size` says how much is done, the result follows from it alone. */
typedef uint64_t workload(long size);
workload workload_sort, workload_hash, workload_list, workload_crc, workload_matrix, workload_libm, workload_x87,
    workload_indirect, workload_recursion, workload_copy, workload_string, workload_branches, workload_busy,
    workload_syscall, workload_pipe, workload_fork, workload_exec, workload_fault, workload_signals;

/* Memory of zeros, or the end of the program. It is never given back: a workload runs once. */
void *allocate(unsigned long len_bytes);

/* The argument at `index` as a number, or `otherwise` if there is none. Ends the program if it is no number. */
long argument(int argc, char **argv, int index, long otherwise);

/* Prints what went wrong in `what`, with errno in words, and ends the program. */
noreturn void give_up(const char *what);

/* A random number that is the same in every run: xorshift64. `*state` must not be 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
